//! Image garbage collection: upstream's image manager policy. Above the high threshold the images that were not used
//! for longest go, until the low one is reached.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use xebec_cri::v1;

use crate::config::Config;
use crate::kubelet::Kubelet;
use crate::machine;

/// `imageMinimumGCAge`.
const AGE_MIN: Duration = Duration::from_secs(120);
/// Upstream looks as often.
const PERIOD: Duration = Duration::from_secs(300);

/// When each image was seen first and used last.
#[derive(Debug, Default)]
pub struct ImageUse(Mutex<BTreeMap<String, Seen>>);

#[derive(Clone, Copy, Debug)]
struct Seen {
    detected: Instant,
    used: Option<Instant>,
}

/// An image that nothing uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub id: String,
    pub size: u64,
}

impl ImageUse {
    /// Notes a list of images and which of them are in use; the unused ones that are old enough, the longest unused
    /// first. Pinned images, such as the sandbox's, never go.
    pub fn candidates(&self, images: &[v1::Image], in_use: &BTreeSet<String>, now: Instant) -> Vec<Candidate> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|id, _| images.iter().any(|image| image.id == *id));
        for image in images {
            let entry = seen.entry(image.id.clone()).or_insert(Seen { detected: now, used: None });
            if is_used(image, in_use) {
                entry.used = Some(now);
            }
        }
        let unused = images.iter().filter(|image| !image.pinned && !is_used(image, in_use));
        let mut old: Vec<_> = unused
            .filter_map(|image| Some((image, *seen.get(&image.id)?)))
            .filter(|(_, seen)| now.duration_since(seen.detected) >= AGE_MIN)
            .collect();
        old.sort_by_key(|(_, seen)| (seen.used, seen.detected));
        old.into_iter().map(|(image, _)| Candidate { id: image.id.clone(), size: image.size }).collect()
    }
}

fn is_used(image: &v1::Image, in_use: &BTreeSet<String>) -> bool {
    in_use.contains(&image.id) || image.repo_digests.iter().chain(&image.repo_tags).any(|name| in_use.contains(name))
}

pub(crate) async fn run(kubelet: Arc<Kubelet>) {
    let mut ticker = tokio::time::interval(PERIOD);
    ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticker.tick().await;
        kubelet.learn_image_filesystem().await;
        let candidates = candidates(&kubelet).await;
        let path = kubelet.image_filesystem.get().unwrap_or(&kubelet.config.root_dir);
        let excess = machine::filesystem(path).map_or(0, |(size, free)| excess_bytes(&kubelet.config, size, free));
        if excess > 0 {
            remove(&kubelet, candidates, excess).await;
        }
    }
}

/// What must be freed: nothing up to the high threshold, beyond it everything above the low one.
fn excess_bytes(config: &Config, size: u64, free: u64) -> u64 {
    let used = size.saturating_sub(free);
    let high = config.image_gc_high_threshold;
    if size == 0 || high >= 100 || used * 100 / size < high {
        return 0;
    }
    used.saturating_sub(size / 100 * config.image_gc_low_threshold)
}

/// Every image that nothing uses, as eviction wants it; answers how many went.
pub(crate) async fn remove_unused(kubelet: &Kubelet) -> usize {
    let candidates = candidates(kubelet).await;
    remove(kubelet, candidates, u64::MAX).await
}

async fn candidates(kubelet: &Kubelet) -> Vec<Candidate> {
    let lists = tokio::try_join!(kubelet.runtime.list_images(), images_in_use(kubelet));
    match lists {
        Ok((images, mut in_use)) => {
            in_use.extend(kubelet.config.sandbox_image.clone());
            kubelet.image_use.candidates(&images, &in_use, Instant::now())
        }
        Err(error) => {
            tracing::warn!(error = error.message(), "list images for their collection");
            Vec::new()
        }
    }
}

/// The images that containers, running or not, were made of.
async fn images_in_use(kubelet: &Kubelet) -> xebec_cri::Result<BTreeSet<String>> {
    let containers = kubelet.runtime.list_containers(None).await?;
    Ok(containers.into_iter().map(|container| container.image_ref).collect())
}

async fn remove(kubelet: &Kubelet, candidates: Vec<Candidate>, excess: u64) -> usize {
    let (mut freed, mut removed) = (0_u64, 0);
    for image in candidates {
        if freed >= excess {
            break;
        }
        match kubelet.runtime.remove_image(&image.id).await {
            Ok(()) => {
                tracing::info!(image = image.id, bytes = image.size, "unused image removed");
                (freed, removed) = (freed.saturating_add(image.size), removed + 1);
            }
            Err(error) => tracing::warn!(image = image.id, error = error.message(), "remove unused image"),
        }
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(size: u64, free: u64, expected: u64) {
        let config = crate::testing::config(std::path::Path::new("/nonexistent"));
        assert_eq!(excess_bytes(&config, size, free), expected, "{free} of {size} free");
        let never = Config { image_gc_high_threshold: 100, ..config };
        assert_eq!(excess_bytes(&never, size, free), 0);
    }

    #[test]
    fn nothing_goes_below_the_high_threshold_and_beyond_it_down_to_the_low_one() {
        check(1000, 151, 0);
        check(1000, 150, 50);
        check(1000, 0, 200);
        check(0, 0, 0);
    }

    fn image(id: &str, pinned: bool) -> v1::Image {
        v1::Image { id: id.to_owned(), size: 1, pinned, ..v1::Image::default() }
    }

    #[test]
    fn the_longest_unused_goes_first_and_a_new_one_not_at_all() {
        let uses = ImageUse::default();
        let mut images = vec![image("never", false), image("once", false), image("now", false), image("pause", true)];
        let ids = |candidates: Vec<Candidate>| candidates.into_iter().map(|image| image.id).collect::<Vec<_>>();
        let in_use = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
        let start = Instant::now();
        assert!(ids(uses.candidates(&images, &in_use(&["once", "now"]), start)).is_empty(), "all are new");
        images.push(image("new", false));
        assert_eq!(ids(uses.candidates(&images, &in_use(&["now"]), start + AGE_MIN)), ["never", "once"]);
    }
}
