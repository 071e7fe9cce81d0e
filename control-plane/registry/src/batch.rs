//! Jobs and CronJobs: `pkg/apis/batch`.

pub mod cron_job;
pub mod indexes;
pub mod job;

mod policies;
mod spec;
mod status;

#[cfg(test)]
mod tests;
