//! CronJobs: `ValidateCronJobCreate`, `ValidateCronJobUpdate`.

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::cron::{self, Schedule};
use xebec_machinery::field::Path;

use super::spec;
use crate::apps::{CONTAINERS, IMAGES, SELECTOR, layout};
use crate::errors::Errors;
use crate::names::{not_negative, pod_name_warning};
use crate::strategy::{Column, Strategy, age};
use crate::value::{at, at_mut, boolean, default, default_string, is_set, items, string};
use crate::{duration, meta, pod};

/// Jobs get the name with eleven more characters, and their names are labels.
const NAME_BYTES_MAX: usize = 52;
const POLICIES: &[&str] = &["Allow", "Forbid", "Replace"];
const ZONE_PART_BYTES_MAX: usize = 14;

pub struct CronJob;

impl Strategy for CronJob {
    /// The template is not defaulted as a job: its jobs will be.
    fn default(&self, job: &mut Value) {
        if let Some(template) = at_mut(job, "spec.jobTemplate.spec").filter(|spec| spec.is_object()) {
            spec::default_nested(template);
        }
        let Some(spec) = job.get_mut("spec").filter(|spec| spec.is_object()) else { return };
        default_string(spec, "concurrencyPolicy", "Allow");
        default(spec, "suspend", false);
        default(spec, "successfulJobsHistoryLimit", 3);
        default(spec, "failedJobsHistoryLimit", 1);
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn validate_object(&self, job: &Value, errors: &mut Errors) {
        validate(job, None, errors);
        if meta::name(job).len() > NAME_BYTES_MAX {
            let detail = format!("must be no more than {NAME_BYTES_MAX} characters");
            errors.invalid(&Path::new("metadata").child("name"), meta::name(job), detail);
        }
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate(new, Some(old), errors);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut warnings: Vec<String> = pod_name_warning(new).filter(|_| old.is_none()).into_iter().collect();
        let template = "spec.jobTemplate.spec.template";
        if old.is_none_or(|old| at(old, template) != at(new, template)) {
            let path = Path::new("spec").child("jobTemplate").child("spec").child("template");
            warnings.extend(pod::template_warnings(at(new, template), &path));
        }
        let schedule = string(new, "spec.schedule");
        if schedule.contains("TZ") {
            warnings.push(format!(
                "spec.schedule: CRON_TZ or TZ used in {schedule:?} is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
            ));
        }
        warnings
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Schedule", "When jobs start."),
                Column::string("Timezone", "The time zone of the schedule."),
                Column { kind: "boolean", ..Column::string("Suspend", "Whether no further jobs start.") },
                Column::integer("Active", "How many jobs are running."),
                Column::string("Last Schedule", "When a job was started last."),
                Column::AGE,
                CONTAINERS,
                IMAGES,
                SELECTOR,
            ]
        }
    }

    fn row(&self, job: &Value, now: OffsetDateTime) -> Vec<Value> {
        let last = match string(job, "status.lastScheduleTime") {
            "" => "<none>".to_owned(),
            time => duration::since(time, now),
        };
        let suspend = match at(job, "spec.suspend").as_bool() {
            Some(true) => "True",
            Some(false) => "False",
            None => "<unset>",
        };
        let template = at(job, "spec.jobTemplate.spec");
        let [names, images] = layout(at(template, "template"));
        vec![
            json!(meta::name(job)),
            json!(string(job, "spec.schedule")),
            json!(at(job, "spec.timeZone").as_str().unwrap_or("<none>")),
            json!(suspend),
            json!(items(job, "status.active").len()),
            json!(last),
            age(job, now),
            names,
            images,
            json!(meta::format_selector(at(template, "selector"))),
        ]
    }
}

fn validate(job: &Value, old: Option<&Value>, errors: &mut Errors) {
    let (spec, path) = (at(job, "spec"), Path::new("spec"));
    let schedule_path = path.child("schedule");
    match string(spec, "schedule") {
        "" => errors.required(&schedule_path, ""),
        text => {
            let had_zone = old.is_some_and(|old| string(old, "spec.schedule").contains("TZ"));
            schedule_format(text, had_zone, is_set(spec, "timeZone"), &schedule_path, errors);
        }
    }
    not_negative(spec, "startingDeadlineSeconds", &path, errors);
    if old.is_none_or(|old| at(old, "spec.timeZone") != at(spec, "timeZone")) {
        time_zone(spec, &path.child("timeZone"), errors);
    }
    match string(spec, "concurrencyPolicy") {
        "" => errors.required(&path.child("concurrencyPolicy"), ""),
        policy if POLICIES.contains(&policy) => {}
        other => errors.not_supported(&path.child("concurrencyPolicy"), other, POLICIES),
    }
    job_template(at(spec, "jobTemplate.spec"), &path.child("jobTemplate").child("spec"), errors);
    not_negative(spec, "successfulJobsHistoryLimit", &path, errors);
    not_negative(spec, "failedJobsHistoryLimit", &path, errors);
}

fn schedule_format(text: &str, may_have_zone: bool, zone_is_set: bool, path: &Path, errors: &mut Errors) {
    if let Err(why) = Schedule::parse(text, None) {
        errors.invalid(path, text, why.to_string());
    }
    match (text.contains("TZ"), may_have_zone) {
        (true, true) if zone_is_set => {
            errors.invalid(path, text, "cannot use both timeZone field and TZ or CRON_TZ in schedule");
        }
        (true, false) => {
            errors.invalid(path, text, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
        }
        _ => {}
    }
}

/// `validateTimeZone`.
fn time_zone(spec: &Value, path: &Path, errors: &mut Errors) {
    let Some(zone) = at(spec, "timeZone").as_str() else { return };
    if zone.is_empty() {
        errors.invalid(path, zone, "timeZone must be nil or non-empty string");
        return;
    }
    let is_part = |part: &str| {
        let known = |b: u8| b.is_ascii_alphanumeric() || b"._-+".contains(&b);
        !["", ".", ".."].contains(&part)
            && !part.starts_with('-')
            && part.len() <= ZONE_PART_BYTES_MAX
            && part.bytes().all(known)
    };
    if !zone.split('/').all(is_part) {
        errors.invalid(path, zone, format!("unknown time zone {zone}"));
        return;
    }
    if zone.eq_ignore_ascii_case("Local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.invalid(path, zone, detail);
    } else if cron::zone(zone).is_err() {
        errors.invalid(path, zone, format!("unknown time zone {zone}"));
    }
}

/// `ValidateJobTemplateSpec`.
fn job_template(template: &Value, path: &Path, errors: &mut Errors) {
    spec::validate(template, path, errors);
    if is_set(template, "selector") {
        let selector = at(template, "selector").clone();
        errors.invalid(&path.child("selector"), selector, "`selector` will be auto-generated");
    }
    if boolean(template, "manualSelector") {
        errors.not_supported(&path.child("manualSelector"), true, &["nil", "false"]);
    }
}
