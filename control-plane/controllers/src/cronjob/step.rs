//! What a CronJob needs next.

use crate::control;
use crate::cronjob::missed::missed;
use crate::job::{finished_at, is_finished};
use chrono::{DateTime, Utc};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use xebec_client::EventType;
use xebec_machinery::cron::{self, Schedule};
use xebec_types::batch::{CronJob, CronJobStatus, Job};
use xebec_types::core::ObjectReference;
use xebec_types::time::{self, Timestamp};
use xebec_types::{ObjectMeta, annotation, condition, object};

/// Added to the wait for the next time, so that it has come when the queue wakes up.
const DELTA: Duration = Duration::from_millis(100);

/// An Event: type, reason, message.
pub type Told = (EventType, &'static str, String);

#[derive(Default, Debug)]
pub struct Plan {
    /// Without the Job of `start`.
    pub status: CronJobStatus,
    /// Finished Jobs beyond the history limits.
    pub surplus: Vec<Arc<Job>>,
    /// Running Jobs that give way to the next one.
    pub replaced: Vec<Arc<Job>>,
    pub start: Option<Start>,
    pub events: Vec<Told>,
    /// When the next time is due.
    pub next: Option<Duration>,
}

#[derive(Debug)]
pub struct Start {
    pub job: Box<Job>,
    pub at: Timestamp,
}

/// `jobs` are the CronJob's own.
#[must_use]
pub fn step(cron: &CronJob, jobs: &[Arc<Job>], now: Timestamp) -> Plan {
    let mut plan = Plan { status: cron.status.clone().unwrap_or_default(), ..Plan::default() };
    plan.surplus = surplus(cron, jobs);
    review(jobs, &mut plan);
    if object::is_being_deleted(&cron.metadata) || cron.spec.suspend == Some(true) {
        return plan;
    }
    let spec = &cron.spec;
    let zone = match spec.time_zone.as_deref().map(cron::zone).transpose() {
        Ok(zone) => zone,
        Err(why) => {
            let message = format!("invalid timeZone: {:?}: {why}", why.0);
            plan.events.push((EventType::Warning, "UnknownTimeZone", message));
            return plan;
        }
    };
    let schedule = match Schedule::parse(&spec.schedule, zone) {
        Ok(schedule) => schedule,
        Err(why) => {
            let message = format!("unparseable schedule: {:?} : {why}", spec.schedule);
            plan.events.push((EventType::Warning, "UnparseableSchedule", message));
            return plan;
        }
    };
    schedule_next(cron, jobs, &schedule, now, &mut plan);
    let last = plan.start.as_ref().map_or(now, |start| start.at.max(now));
    plan.next = schedule.next(utc(last)).map(|next| time::until(stamp(next), now) + DELTA);
    plan
}

/// Brings the list of active Jobs and the time of the last success up to date.
fn review(jobs: &[Arc<Job>], plan: &mut Plan) {
    let active = plan.status.active.take().unwrap_or_default();
    let is_listed = |job: &Job| active.iter().any(|a| a.uid == job.metadata.uid);
    for job in jobs {
        let name = object::name(&job.metadata);
        if is_listed(job)
            && let Some(last) = last_condition(job)
        {
            let message = format!("Saw completed job: {name}, condition: {last}");
            plan.events.push((EventType::Normal, "SawCompletedJob", message));
        } else if !is_listed(job) && !is_finished(job) {
            let message = format!("Saw a job that the controller did not create or forgot: {name}");
            plan.events.push((EventType::Warning, "UnexpectedJob", message));
        }
        let completed = job.status.as_ref().and_then(|s| s.completion_time.clone());
        if last_condition(job) == Some(condition::COMPLETE) && completed > plan.status.last_successful_time {
            plan.status.last_successful_time = completed;
        }
    }
    let mut kept = Vec::new();
    for reference in active {
        match jobs.iter().find(|job| job.metadata.uid == reference.uid) {
            Some(job) if is_finished(job) => {}
            Some(_) => kept.push(reference),
            None => {
                let name = reference.name.unwrap_or_default();
                plan.events.push((EventType::Normal, "MissingJob", format!("Active job went missing: {name}")));
            }
        }
    }
    plan.status.active = Some(kept).filter(|kept| !kept.is_empty());
}

fn last_condition(job: &Job) -> Option<&str> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let is_last = |kind: &str| [condition::COMPLETE, condition::FAILED].contains(&kind);
    conditions.iter().find(|c| c.status == condition::TRUE && is_last(&c.type_)).map(|c| c.type_.as_str())
}

fn schedule_next(cron: &CronJob, jobs: &[Arc<Job>], schedule: &Schedule, now: Timestamp, plan: &mut Plan) {
    let deadline = cron.spec.starting_deadline_seconds.map(|s| Duration::from_secs(s.max(0).unsigned_abs()));
    let begin = plan.status.last_schedule_time.as_ref().or(cron.metadata.creation_timestamp.as_ref());
    let mut earliest = begin.map_or(now, |t| t.0);
    if let Some(limit) = deadline.and_then(|d| now.checked_sub(d).ok()) {
        earliest = earliest.max(limit);
    }
    let missed = missed(schedule, utc(earliest), utc(now));
    if missed.many {
        let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        plan.events.push((EventType::Warning, "TooManyMissedTimes", message.into()));
    }
    let Some(due) = missed.latest else { return };
    let at = stamp(due);
    if deadline.is_some_and(|deadline| time::since(at, now) > deadline) {
        let message = format!("Missed scheduled time to start a job: {}", due.format("%a, %d %b %Y %H:%M:%S +0000"));
        plan.events.push((EventType::Warning, "MissSchedule", message));
        return;
    }
    let name = job_name(cron, at);
    let active = plan.status.active.as_deref().unwrap_or_default();
    let is_started = active.iter().any(|a| a.name.as_deref() == Some(&name));
    if is_started || plan.status.last_schedule_time.as_ref().is_some_and(|last| last.0 == at) {
        return;
    }
    match cron.spec.concurrency_policy.as_deref() {
        Some("Forbid") if !active.is_empty() => {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            plan.events.push((EventType::Normal, "JobAlreadyActive", message.into()));
            return;
        }
        Some("Replace") => {
            let uids: BTreeSet<_> = active.iter().map(|a| a.uid.clone()).collect();
            plan.replaced = jobs.iter().filter(|job| uids.contains(&job.metadata.uid)).cloned().collect();
            plan.status.active = None;
        }
        _ => {}
    }
    plan.start = Some(Start { job: Box::new(new_job(cron, schedule, &name, due)), at });
}

/// Finished Jobs beyond `successfulJobsHistoryLimit` and `failedJobsHistoryLimit`, oldest first.
fn surplus(cron: &CronJob, jobs: &[Arc<Job>]) -> Vec<Arc<Job>> {
    let beyond = |kind: &str, limit: Option<i32>| {
        let Ok(limit) = usize::try_from(limit.unwrap_or(i32::MAX)) else { return Vec::new() };
        let mut ended: Vec<_> = jobs.iter().filter(|job| last_condition(job) == Some(kind)).cloned().collect();
        ended.sort_by_cached_key(|job| {
            let started = job.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0);
            (started, finished_at(job), object::name(&job.metadata).to_string())
        });
        let surplus = ended.len().saturating_sub(limit);
        ended.truncate(surplus);
        ended
    };
    let mut all = beyond(condition::COMPLETE, cron.spec.successful_jobs_history_limit);
    all.extend(beyond(condition::FAILED, cron.spec.failed_jobs_history_limit));
    all.retain(|job| !object::is_being_deleted(&job.metadata));
    all
}

/// A name that only one Job can have, however often it is tried: the minute of the schedule.
fn job_name(cron: &CronJob, at: Timestamp) -> String {
    format!("{}-{}", object::name(&cron.metadata), at.as_second() / 60)
}

fn new_job(cron: &CronJob, schedule: &Schedule, name: &str, due: DateTime<Utc>) -> Job {
    let template = &cron.spec.job_template;
    let meta = template.metadata.clone().unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    let local = due.with_timezone(&schedule.zone()).to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    annotations.insert(annotation::CRONJOB_SCHEDULED_TIMESTAMP.into(), local);
    Job {
        metadata: ObjectMeta {
            name: Some(name.into()),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![control::controller_ref(cron)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// How the status names a Job that was started.
pub(super) fn reference(job: &Job) -> ObjectReference {
    xebec_client::event::reference(job)
}

fn utc(at: Timestamp) -> DateTime<Utc> {
    DateTime::from_timestamp(at.as_second(), 0).unwrap_or_default()
}

fn stamp(at: DateTime<Utc>) -> Timestamp {
    Timestamp::from_second(at.timestamp()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
