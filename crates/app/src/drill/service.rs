//! The app itself, started on what was restored, for as long as the drill asks it.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::running::{Running, SLICE};
use super::urls::{Asked, Site};
use super::{Done, Drill, Trouble};
use crate::config::{DrillConfig, DrillService};

/// The variable that tells the app where to listen.
pub(super) const PORT_VARIABLE: &str = "LIFEBOAT_DRILL_PORT";

/// How long one look takes at most; some apps do much before their first answer.
const LOOK: Duration = Duration::from_secs(20);

/// The app at work.
pub(super) struct Service {
    pub(super) running: Running,
    pub(super) port: u16,
}

impl Drill<'_> {
    /// Starts the app and waits until it is ready; nothing is wrong when it is.
    ///
    /// What cannot be started is the surroundings' fault, as with every program. What was started and does not get ready was
    /// given the restored app: so that is judged.
    pub(super) fn begin_service(&mut self, service: &DrillService) -> Done<Option<String>> {
        let cannot = |why: &dyn std::fmt::Display| {
            Trouble::Surroundings(format!(
                "the app cannot be started: {}: {why}",
                service.run.first().map_or("", String::as_str)
            ))
        };
        let port = free_port().map_err(|error| cannot(&error))?;
        let mut variables = self.variables();
        variables.push((PORT_VARIABLE.to_owned(), port.to_string()));
        let placed = |argument: &String| argument.replace("{port}", &port.to_string());
        let run: Vec<String> = service.run.iter().map(placed).collect();
        let running = Running::start(&run, variables, self.scratch.path(), true)
            .map_err(|error| cannot(&error))?;
        // One that has ended meanwhile is told below.
        let _ = self.scratch.note(&running);
        self.service = Some(Service { running, port });
        let site = Site::new(Some(port), service.host.clone(), BTreeMap::new());
        let deadline = Instant::now() + service.timeout;
        let mut last = format!("nothing answers on port {port}");
        loop {
            self.going_on()?;
            let Some(started) = &mut self.service else {
                return Err(Trouble::Backup);
            };
            if let Some(status) = started.running.ended().map_err(|error| cannot(&error))? {
                let said = started.running.last_words();
                return Ok(Some(format!(
                    "the restored app does not start: its program ended with {status}{said}"
                )));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let said = started.running.last_words();
                return Ok(Some(format!(
                    "the restored app is not ready within {} s: {last}{said}",
                    service.timeout.as_secs()
                )));
            }
            let looked = self.while_asked(|| site.look(&service.ready, left.min(LOOK)));
            match looked {
                Asked::Status(status) if status < 500 => return Ok(None),
                Asked::Status(status) => {
                    last = format!("{} answers {status}", service.ready);
                }
                Asked::Nothing(why) => last = why,
            }
            std::thread::sleep(SLICE);
        }
    }

    /// Ends the app.
    pub(super) fn end_service(&mut self) {
        self.service = None;
    }

    /// What the texts of URLs may name.
    pub(super) fn values(&self, config: &DrillConfig) -> Done<BTreeMap<String, Zeroizing<String>>> {
        let mut values = BTreeMap::new();
        for (name, secret) in &config.values {
            let value = secret.read(|name| std::env::var_os(name));
            let value = value.map_err(|error| {
                Trouble::Surroundings(format!("the value {name} cannot be had: {error}"))
            })?;
            values.insert(name.clone(), value);
        }
        if let Some(service) = &self.service {
            let port = Zeroizing::new(service.port.to_string());
            values.insert("port".to_owned(), port);
        }
        Ok(values)
    }
}

/// A port that nobody listens on, as far as a moment tells.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
