//! `/healthz`, `/livez` and `/readyz` in upstream's text (kubernetes.io, "Kubernetes API health endpoints").

use std::fmt::Write as _;
use std::sync::Arc;

/// One thing that must work; the error is for the log, not for the client.
pub type Probe = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Named probes, in the order in which they are shown.
#[derive(Clone, Default)]
pub struct Health {
    probes: Vec<(&'static str, Probe)>,
}

/// A status code and a text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    pub code: u16,
    pub text: String,
}

impl Health {
    /// Adds a probe.
    #[must_use]
    pub fn with(mut self, name: &'static str, probe: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.probes.push((name, Arc::new(probe)));
        self
    }

    /// The answer of `endpoint` (`readyz`), whose query may hold `verbose` and several `exclude=NAME`.
    pub fn check(&self, endpoint: &str, query: &str) -> Answer {
        let parameters: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
        let verbose = parameters.iter().any(|(name, _)| name == "verbose");
        let excluded: Vec<&str> =
            parameters.iter().filter(|(key, _)| key == "exclude").map(|(_, v)| v.as_ref()).collect();
        let mut lines = String::new();
        let mut failed = Vec::new();
        for (name, probe) in &self.probes {
            if excluded.contains(name) {
                let _ = writeln!(lines, "[+]{name} excluded: ok");
                continue;
            }
            match probe() {
                Ok(()) => {
                    let _ = writeln!(lines, "[+]{name} ok");
                }
                Err(reason) => {
                    tracing::info!(endpoint, probe = name, reason, "not healthy");
                    let _ = writeln!(lines, "[-]{name} failed: reason withheld");
                    failed.push(*name);
                }
            }
        }
        let mut unknown: Vec<_> =
            excluded.iter().filter(|name| self.probes.iter().all(|(known, _)| known != *name)).collect();
        unknown.sort();
        if !unknown.is_empty() {
            let unknown: Vec<_> = unknown.iter().map(|name| format!("{name:?}")).collect();
            let list = unknown.join(",");
            let _ = writeln!(lines, "warn: some health checks cannot be excluded: no matches for {list}");
        }
        if !failed.is_empty() {
            return Answer { code: 500, text: format!("{lines}{endpoint} check failed\n") };
        }
        let text = if verbose { format!("{lines}{endpoint} check passed\n") } else { "ok".to_owned() };
        Answer { code: 200, text }
    }

    /// The answer of `endpoint/NAME`; `None` when there is no such probe.
    pub fn check_one(&self, name: &str) -> Option<Answer> {
        let (_, probe) = self.probes.iter().find(|(known, _)| *known == name)?;
        Some(match probe() {
            Ok(()) => Answer { code: 200, text: "ok".to_owned() },
            Err(_) => Answer { code: 500, text: "internal server error: reason withheld\n".to_owned() },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Health;

    fn check(query: &str, code: u16, text: &str) {
        let health = Health::default().with("ping", || Ok(())).with("etcd", || Err("gone".to_owned()));
        let answer = health.check("readyz", query);
        assert_eq!((answer.code, answer.text.as_str()), (code, text), "?{query}");
    }

    #[test]
    fn answers_in_upstreams_text() {
        check("", 500, "[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed\n");
        check("exclude=etcd", 200, "ok");
        let warning = "warn: some health checks cannot be excluded: no matches for \"a/b\",\"x\"\n";
        let text = format!("[+]ping ok\n[+]etcd excluded: ok\n{warning}readyz check passed\n");
        check("verbose=1&exclude=etcd&exclude=x&exclude=a%2Fb", 200, &text);
        check("verbose&exclude=etcd", 200, "[+]ping ok\n[+]etcd excluded: ok\nreadyz check passed\n");
    }

    #[test]
    fn one_probe_answers_for_itself() {
        let health = Health::default().with("ping", || Ok(()));
        assert_eq!(health.check_one("ping").map(|answer| answer.code), Some(200));
        assert_eq!(health.check_one("other"), None);
    }
}
