//! The text that kubelets answer `/metrics/resource` with (KEP-727), as far as the resource metrics API needs it.

use super::reading::Reading;

/// `now_ms`: when the text was read, in milliseconds of Unix time, for figures that do not say their own time.
/// Lines that are not understood are left out.
pub fn parse(text: &str, now_ms: i64) -> Reading {
    let mut reading = Reading::default();
    for sample in text.lines().filter_map(Sample::parse) {
        let at = sample.at_ms.unwrap_or(now_ms);
        let Some((of, figure)) = sample.name.split_once('_') else { continue };
        let point = match of {
            "node" => &mut reading.node,
            "container" => {
                let (Some(namespace), Some(pod), Some(container)) =
                    (sample.label("namespace"), sample.label("pod"), sample.label("container"))
                else {
                    continue;
                };
                reading.pods.entry((namespace, pod)).or_default().entry(container).or_default()
            }
            _ => continue,
        };
        match figure {
            "cpu_usage_seconds_total" => (point.cpu_seconds, point.at_ms) = (Some(sample.value), at),
            "memory_working_set_bytes" => point.memory_bytes = Some(sample.value),
            "start_time_seconds" => point.started_ms = Some(millis(sample.value)),
            _ => {}
        }
    }
    reading.pods.values_mut().for_each(|containers| containers.retain(|_, point| point.is_whole()));
    reading
}

#[allow(clippy::cast_possible_truncation)] // Saturates.
fn millis(seconds: f64) -> i64 {
    (seconds * 1000.0) as i64
}

/// One line of the text format: `name{label="value",…} value [milliseconds]`.
struct Sample<'a> {
    name: &'a str,
    labels: &'a str,
    value: f64,
    at_ms: Option<i64>,
}

impl<'a> Sample<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let line = line.trim();
        if line.starts_with('#') {
            return None;
        }
        let (name, labels, rest) = match line.split_once('{') {
            Some((name, rest)) => {
                let (labels, rest) = rest.rsplit_once('}')?;
                (name, labels, rest)
            }
            None => {
                let (name, rest) = line.split_once(' ')?;
                (name, "", rest)
            }
        };
        let mut words = rest.split_whitespace();
        let value = words.next()?.parse().ok().filter(|value: &f64| value.is_finite() && *value >= 0.0)?;
        Some(Self { name, labels, value, at_ms: words.next().and_then(|at| at.parse().ok()) })
    }

    /// Names of pods, namespaces and containers hold nothing that the format escapes.
    fn label(&self, wanted: &str) -> Option<String> {
        let mut pairs = self.labels.split(',').filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| name.trim() == wanted).map(|(_, value)| value.trim().trim_matches('"').to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::reading::Point;
    use super::*;

    #[test]
    fn figures_are_found_by_their_labels() {
        let text = concat!(
            "# HELP container_cpu_usage_seconds_total [STABLE] x\n# TYPE container_cpu_usage_seconds_total counter\n",
            "container_cpu_usage_seconds_total{container=\"c\",namespace=\"n\",pod=\"p\"} 1.5 1500\n",
            "container_memory_working_set_bytes{container=\"c\",namespace=\"n\",pod=\"p\"} 2e+06 1500\n",
            "container_start_time_seconds{container=\"c\",namespace=\"n\",pod=\"p\"} 1.25\n",
            "container_cpu_usage_seconds_total{container=\"half\",namespace=\"n\",pod=\"p\"} 1.5 1500\n",
            "node_cpu_usage_seconds_total 7\nnode_memory_working_set_bytes 8\n",
            "pod_cpu_usage_seconds_total{namespace=\"n\",pod=\"p\"} 9\nnonsense\nnode_cpu{ 1\n",
        );
        let reading = parse(text, 99);
        let point = |cpu: f64, memory: f64, at_ms, started_ms| Point {
            cpu_seconds: Some(cpu),
            memory_bytes: Some(memory),
            at_ms,
            started_ms,
        };
        assert_eq!(reading.node, point(7.0, 8.0, 99, None));
        let containers = &reading.pods[&("n".to_owned(), "p".to_owned())];
        assert_eq!(containers.len(), 1);
        assert_eq!(containers["c"], point(1.5, 2e6, 1500, Some(1250)));
    }
}
