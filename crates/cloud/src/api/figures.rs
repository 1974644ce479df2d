//! Figures for Prometheus: what is counted while the backend runs, and what the database says at the moment.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::lifecycle::State;
use crate::placement::Room;

/// Upper bounds of the histogram, in seconds.
const BOUNDS: [f64; 8] = [0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0];

/// What is counted.
#[derive(Default)]
pub struct Figures {
    requests: Mutex<BTreeMap<Key, Durations>>,
}

/// Method, route (a pattern, so that there are few of them), status.
type Key = (String, String, u16);

#[derive(Clone, Copy, Default)]
struct Durations {
    within: [u64; BOUNDS.len()],
    count: u64,
    sum: f64,
}

impl Figures {
    /// Counts a request. `route` must come from the router, never from the client.
    pub fn request(&self, method: &str, route: &str, status: u16, time: Duration) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let durations = requests.entry((method.to_owned(), route.to_owned(), status)).or_default();
        let seconds = time.as_secs_f64();
        for (within, bound) in durations.within.iter_mut().zip(BOUNDS) {
            *within += u64::from(seconds <= bound);
        }
        durations.count += 1;
        durations.sum += seconds;
    }

    /// All of it, in Prometheus's text format.
    pub fn render(&self, apps: &[(State, u64)], whole: Room, taken: Room) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text, apps, whole, taken);
        text
    }

    fn write(
        &self,
        out: &mut String,
        apps: &[(State, u64)],
        whole: Room,
        taken: Room,
    ) -> Result<(), std::fmt::Error> {
        writeln!(out, "# HELP mse_cloud_apps Apps by state.\n# TYPE mse_cloud_apps gauge")?;
        for state in State::ALL {
            let n = apps.iter().find(|(found, _)| *found == state).map_or(0, |(_, n)| *n);
            writeln!(out, "mse_cloud_apps{{state=\"{state}\"}} {n}")?;
        }
        for (name, help, value) in [
            ("memory_megabytes", "Enclave memory there is.", whole.memory_mb),
            ("memory_taken_megabytes", "Enclave memory that apps occupy.", taken.memory_mb),
            ("cores", "Processor cores there are.", whole.cores),
            ("cores_taken", "Processor cores that apps occupy.", taken.cores),
        ] {
            writeln!(out, "# HELP mse_cloud_{name} {help}\n# TYPE mse_cloud_{name} gauge")?;
            writeln!(out, "mse_cloud_{name} {value}")?;
        }
        writeln!(out, "# HELP mse_cloud_request_duration_seconds Requests to the API.")?;
        writeln!(out, "# TYPE mse_cloud_request_duration_seconds histogram")?;
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        for ((method, route, status), durations) in requests.iter() {
            let labels = format!("method=\"{method}\",route=\"{route}\",status=\"{status}\"");
            let name = "mse_cloud_request_duration_seconds";
            for (within, bound) in durations.within.iter().zip(BOUNDS) {
                writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {within}")?;
            }
            writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", durations.count)?;
            writeln!(out, "{name}_sum{{{labels}}} {}", durations.sum)?;
            writeln!(out, "{name}_count{{{labels}}} {}", durations.count)?;
        }
        Ok(())
    }
}

/// What the public port counted, in the same format: of all apps together.
pub fn of_router(metrics: &router::Metrics) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_router(&mut text, metrics);
    text
}

fn write_router(out: &mut String, metrics: &router::Metrics) -> Result<(), std::fmt::Error> {
    for (name, kind, help, value) in [
        ("accepted_total", "counter", "Connections taken.", metrics.accepted.get()),
        ("routed_total", "counter", "Connections that reached their node.", metrics.routed.get()),
        ("idle_total", "counter", "Connections ended because nothing was said.", metrics.idle.get()),
        ("broken_total", "counter", "Connections that one end broke off.", metrics.broken.get()),
        ("up_bytes_total", "counter", "Bytes from users to nodes.", metrics.bytes_up.get()),
        ("down_bytes_total", "counter", "Bytes from nodes to users.", metrics.bytes_down.get()),
        ("open", "gauge", "Connections open.", metrics.open.get()),
        ("hellos", "gauge", "Connections whose hello is not complete.", metrics.hellos.get()),
    ] {
        writeln!(out, "# HELP mse_cloud_router_{name} {help}\n# TYPE mse_cloud_router_{name} {kind}")?;
        writeln!(out, "mse_cloud_router_{name} {value}")?;
    }
    let name = "mse_cloud_router_refused_total";
    writeln!(out, "# HELP {name} Connections refused, by reason.\n# TYPE {name} counter")?;
    for reason in router::Refusal::ALL {
        writeln!(out, "{name}{{reason=\"{}\"}} {}", reason.label(), metrics.refused(reason))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each line is a remark or a name, perhaps labels, and a number; each name has its kind told before, once.
    #[test]
    fn the_format_is_prometheus_own() {
        let figures = Figures::default();
        figures.request("GET", "/v1/apps/{app}", 200, Duration::from_millis(50));
        let room = Room { memory_mb: 8, cores: 4 };
        let text = figures.render(&[], room, room) + &of_router(&router::Metrics::default());
        let mut kinds = std::collections::BTreeSet::new();
        for line in text.lines() {
            if let Some(remark) = line.strip_prefix("# TYPE ") {
                let (name, kind) = remark.split_once(' ').unwrap();
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(kinds.insert(name.to_owned()), "told twice: {line}");
                assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            } else if !line.starts_with("# HELP ") {
                let (name, value) = line.rsplit_once(' ').unwrap();
                value.parse::<f64>().unwrap();
                let name = name.split('{').next().unwrap();
                let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
                assert!(
                    kinds.contains(name) || family.is_some_and(|family| kinds.contains(family)),
                    "{line}"
                );
            }
        }
        assert!(kinds.contains("mse_cloud_router_refused_total"));
    }

    #[test]
    fn what_was_counted_is_told() {
        let figures = Figures::default();
        figures.request("GET", "/v1/apps/{app}", 200, Duration::from_millis(50));
        figures.request("GET", "/v1/apps/{app}", 200, Duration::from_secs(2));
        let whole = Room { memory_mb: 8, cores: 4 };
        let text = figures.render(&[(State::Running, 3)], whole, Room { memory_mb: 2, cores: 1 });
        let labels = "method=\"GET\",route=\"/v1/apps/{app}\",status=\"200\"";
        for line in [
            "mse_cloud_apps{state=\"running\"} 3".to_owned(),
            "mse_cloud_apps{state=\"on-error\"} 0".to_owned(),
            "mse_cloud_memory_taken_megabytes 2".to_owned(),
            format!("mse_cloud_request_duration_seconds_bucket{{{labels},le=\"0.1\"}} 1"),
            format!("mse_cloud_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} 2"),
            format!("mse_cloud_request_duration_seconds_count{{{labels}}} 2"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
