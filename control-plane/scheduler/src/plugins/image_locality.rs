use crate::cluster::{Cluster, NodeInfo, PodInfo};
use crate::framework::{MAX_SCORE, Score};

/// Below this an image counts for nothing, above that (per container) for all. Upstream's constants.
const MIN_BYTES: i64 = 23 << 20;
const MAX_BYTES: i64 = 1000 << 20;

/// Prefers nodes that have the pod's images, weighed by size and by how many nodes have them.
pub struct ImageLocality {
    /// Image name and the share of nodes that have it.
    images: Vec<(String, f64)>,
}

pub fn pre_score(pod: &PodInfo, cluster: &Cluster) -> Option<ImageLocality> {
    if !cluster.has_images() {
        return None;
    }
    let total = cluster.nodes().len().max(1) as f64;
    let images: Vec<_> = pod.images.iter().map(|image| normalized(image)).collect();
    let images: Vec<_> = images
        .into_iter()
        .map(|image| {
            let share = f64::from(cluster.nodes_with_image(&image)) / total;
            (image, share)
        })
        .collect();
    images.iter().any(|(_, share)| *share > 0.0).then_some(ImageLocality { images })
}

impl Score for ImageLocality {
    fn score(&self, node: &NodeInfo) -> i64 {
        let bytes = |(image, share): &(String, f64)| node.images().get(image).map_or(0.0, |size| *size as f64 * share);
        let sum = self.images.iter().map(bytes).sum::<f64>() as i64;
        let max = MAX_BYTES * self.images.len() as i64;
        MAX_SCORE * (sum.clamp(MIN_BYTES, max) - MIN_BYTES) / (max - MIN_BYTES)
    }
}

/// An image without a tag means `latest`.
fn normalized(image: &str) -> String {
    let after_host = image.rfind('/').map_or(0, |slash| slash + 1);
    if image[after_host..].contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}
