//! What a drill is to ask, read from its table.

use super::super::drill::{
    DrillBody, DrillCheck, DrillCommand, DrillConfig, DrillService, DrillTake, DrillText, DrillUrl,
    is_value_name,
};
use super::super::secret::Secret;
use super::super::section::{Placed, Section};
use super::{Reader, values};
use jiff::SignedDuration;
use std::time::Duration;

/// How long a program that tries the app may take, unless told otherwise.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(3600);
/// How long the app may take until it answers, and then for each answer.
const SERVICE_TIMEOUT: Duration = Duration::from_secs(60);
const URL_TIMEOUT: Duration = Duration::from_secs(30);
/// No drill waits longer for one thing.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
/// Names of the machine itself: a drill sends no password anywhere else.
const LOOPBACK: [&str; 3] = ["127.0.0.1", "localhost", "[::1]"];

impl Reader<'_> {
    pub(super) fn drill(
        &mut self,
        section: &Section,
        databases: &[String],
        sources: &[&str],
    ) -> DrillConfig {
        let checks = section
            .texts("checks")
            .iter()
            .filter_map(|text| self.check(text, databases))
            .collect();
        let service = section
            .table("service")
            .and_then(|service| self.service(service));
        let known: Vec<(String, Secret)> = section
            .texts("values")
            .iter()
            .filter_map(|text| self.value(text))
            .collect();
        let mut names: Vec<String> = known.iter().map(|(name, _)| name.clone()).collect();
        if service.is_some() {
            names.push("port".to_owned());
        }
        let mut urls = Vec::new();
        for table in section.tables_in("url") {
            if let Some(url) = self.url(table, service.is_some(), sources) {
                self.look_for_values(table, &url, &names);
                names.extend(url.take.iter().map(|take| take.name.clone()));
                urls.push(url);
            }
        }
        let mut commands = Vec::new();
        for command in section.tables_in("command") {
            let timeout = self.timeout(command, COMMAND_TIMEOUT);
            if command.offset_of("run").is_some() {
                commands.push(DrillCommand {
                    name: command.name.clone(),
                    run: values(command.texts("run")),
                    timeout,
                });
            }
        }
        DrillConfig {
            checks,
            service,
            values: known,
            urls,
            commands,
        }
    }

    /// A statement, and the database that is named before it or is the only one.
    fn check(&mut self, text: &Placed<String>, databases: &[String]) -> Option<DrillCheck> {
        let check = |source: &str, sql: &str| {
            Some(DrillCheck {
                source: source.to_owned(),
                sql: sql.trim().to_owned(),
            })
        };
        if let Some((name, sql)) = text.value.split_once(':')
            && let Some(source) = databases.iter().find(|known| *known == name.trim())
        {
            return check(source, sql);
        }
        let message = match databases {
            [only] => return check(only, &text.value),
            [] => "`checks` are asked of a database, and the app has none".to_owned(),
            [first, ..] => format!(
                "any of the databases `{}` may be meant: write \"{first}: SELECT …\"",
                databases.join("`, `")
            ),
        };
        self.problems.add(text.offset, message);
        None
    }

    fn service(&mut self, section: &Section) -> Option<DrillService> {
        let timeout = self.timeout(section, SERVICE_TIMEOUT);
        let ready = section.text("ready");
        if let Some(Placed { offset, .. }) = ready.filter(|ready| !is_path(ready.value)) {
            let message = "`ready` is a path: \"/health\"";
            self.problems.add(offset, message);
        }
        section.offset_of("run")?;
        Some(DrillService {
            run: values(section.texts("run")),
            ready: ready.map_or("/", |ready| ready.value).to_owned(),
            host: section.text("host").map(|host| host.value.to_owned()),
            timeout,
        })
    }

    /// How long something may take.
    fn timeout(&mut self, section: &Section, otherwise: Duration) -> Duration {
        let Some(Placed { value, offset }) = section.text("timeout") else {
            return otherwise;
        };
        let read = value.parse::<SignedDuration>().ok();
        let read = read.and_then(|duration| Duration::try_from(duration).ok());
        match read.filter(|duration| *duration > Duration::ZERO && *duration <= TIMEOUT_MAX) {
            Some(duration) => duration,
            None => {
                let message = "`timeout` is a time of up to a day: \"90 seconds\", \"10m\"";
                self.problems.add(offset, message);
                otherwise
            }
        }
    }

    /// `name: secret`.
    fn value(&mut self, text: &Placed<String>) -> Option<(String, Secret)> {
        let Placed { value, offset } = text;
        let split = value.split_once(':');
        let split = split.map(|(name, secret)| (name.trim(), secret.trim()));
        let Some((name, secret)) =
            split.filter(|(name, secret)| is_value_name(name) && !secret.is_empty())
        else {
            let message = "a value has a name of small letters, and a colon before what it is: \"password: env:DRILL_PASSWORD\"";
            self.problems.add(*offset, message);
            return None;
        };
        let placed = Placed {
            value: secret,
            offset: *offset,
        };
        Some((name.to_owned(), self.secret(&placed)?))
    }

    fn url(&mut self, table: &Section, has_service: bool, sources: &[&str]) -> Option<DrillUrl> {
        let timeout = self.timeout(table, URL_TIMEOUT);
        let body = self.body(table);
        let headers = self.pairs(table, "headers", ':', "\"X-Token: {token}\"");
        let take: Vec<DrillTake> = table
            .texts("take")
            .iter()
            .filter_map(|text| self.take(text))
            .collect();
        let method = self.method(table, body.is_some());
        let status = match table.number("status") {
            None => Some(200),
            Some(Placed { value, offset }) => {
                let status = u16::try_from(value).ok();
                let status = status.filter(|status| (100..600).contains(status));
                if status.is_none() {
                    let message = "`status` is a status of HTTP: 200";
                    self.problems.add(offset, message);
                }
                status
            }
        };
        let sha256_of = table.text("sha256-of");
        let file = sha256_of.and_then(|text| self.file(&text, sources));
        let contains = table.text("contains").map(|text| text.value.to_owned());
        if let Some(Placed { offset, .. }) = sha256_of
            && (contains.is_some() || !take.is_empty())
        {
            let message =
                "`sha256-of` says all about an answer; `contains` and `take` look into texts";
            self.problems.add(offset, message);
        }
        let (authority, path) = self.address(table.text("url")?, has_service)?;
        Some(DrillUrl {
            name: table.name.clone(),
            method,
            authority,
            path: DrillText(path),
            headers: headers?,
            body,
            status: status?,
            contains,
            take,
            sha256_of: file,
            timeout,
        })
    }

    /// Where a URL leads: to the app that the drill starts, or to something else on this machine.
    fn address(
        &mut self,
        url: Placed<&str>,
        has_service: bool,
    ) -> Option<(Option<String>, String)> {
        let Placed { value, offset } = url;
        let message = if value.starts_with('/') {
            if has_service && is_path(value) {
                return Some((None, value.to_owned()));
            }
            if has_service {
                "`url` has letters that stand in no URL; write them as %20 and so on"
            } else {
                "`url` is a path of the app, and the drill has no [app.NAME.drill.service] that starts it"
            }
        } else if let Some(rest) = value.strip_prefix("http://") {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let (host, port) = match authority.rsplit_once(':') {
                Some((host, port)) if !port.ends_with(']') => (host, port),
                _ => (authority, "80"),
            };
            // What has an @ in it would be the name of somebody at another machine.
            let is_port = port == "{port}" || port.parse::<u16>().is_ok();
            let path = if path.is_empty() { "/" } else { path };
            if LOOPBACK.contains(&host) && is_port && is_path(path) {
                return Some((Some(authority.to_owned()), path.to_owned()));
            }
            "`url` leads to this machine (127.0.0.1, localhost or [::1]), for nothing else has what was restored"
        } else {
            "`url` is a path of the app, or begins with http://127.0.0.1"
        };
        self.problems.add(offset, message);
        None
    }

    fn method(&mut self, table: &Section, has_body: bool) -> String {
        let usual = if has_body { "POST" } else { "GET" };
        let Some(Placed { value, offset }) = table.text("method") else {
            return usual.to_owned();
        };
        if !METHODS.contains(&value) {
            let message = format!("`method` is one of {}", METHODS.join(", "));
            self.problems.add(offset, message);
        }
        value.to_owned()
    }

    fn body(&mut self, table: &Section) -> Option<DrillBody> {
        let form = self.pairs(table, "form", '=', "\"password={password}\"")?;
        let json = table.text("json");
        match json {
            Some(Placed { offset, .. }) if !form.is_empty() => {
                self.problems
                    .add(offset, "of `form` and `json` only one is given");
                None
            }
            Some(Placed { value, offset }) => {
                let text = DrillText(value.to_owned());
                // A number is well between quotes and without.
                let example = text.fill(|_| "0".to_owned());
                if serde_json::from_str::<serde::de::IgnoredAny>(&example).is_err() {
                    let message = "`json` is no JSON; a value in braces stands between quotes, unless it is a number";
                    self.problems.add(offset, message);
                }
                Some(DrillBody::Json(text))
            }
            None => (!form.is_empty()).then_some(DrillBody::Form(form)),
        }
    }

    /// Texts of a name and what belongs to it.
    fn pairs(
        &mut self,
        table: &Section,
        key: &str,
        sign: char,
        example: &str,
    ) -> Option<Vec<(String, DrillText)>> {
        let mut pairs = Vec::new();
        let mut is_right = true;
        for Placed { value, offset } in table.texts(key) {
            match value.split_once(sign) {
                Some((name, text)) if !name.trim().is_empty() => {
                    let text = if sign == ':' { text.trim() } else { text };
                    pairs.push((name.trim().to_owned(), DrillText(text.to_owned())));
                }
                _ => {
                    is_right = false;
                    let message = format!("`{key}` has texts such as {example}");
                    self.problems.add(*offset, message);
                }
            }
        }
        is_right.then_some(pairs)
    }

    /// `name: before*behind`.
    fn take(&mut self, text: &Placed<String>) -> Option<DrillTake> {
        let Placed { value, offset } = text;
        let taken = value.split_once(':').and_then(|(name, rest)| {
            let (before, behind) = rest.trim_start().split_once('*')?;
            let is_right = is_value_name(name.trim()) && !before.is_empty() && !behind.is_empty();
            is_right.then(|| DrillTake {
                name: name.trim().to_owned(),
                before: before.to_owned(),
                behind: behind.to_owned(),
            })
        });
        if taken.is_none() {
            let message = "`take` has a name of small letters, a colon, and a * between what stands before the value and behind it: \"token: name='csrf' value='*'\"";
            self.problems.add(*offset, message);
        }
        taken
    }

    /// A file of the snapshot, by source and path.
    fn file(&mut self, text: &Placed<&str>, sources: &[&str]) -> Option<(String, String)> {
        let Placed { value, offset } = *text;
        let split = value.split_once(':');
        let is_inside = |path: &str| {
            let mut parts = path.split('/');
            parts.all(|part| !matches!(part, "" | "." | ".."))
        };
        match split.filter(|(source, path)| sources.contains(source) && is_inside(path)) {
            Some((source, path)) => Some((source.to_owned(), path.to_owned())),
            None => {
                let message = "`sha256-of` names a file of one of the app's folders: \"uploads:logos/logo.png\"";
                self.problems.add(offset, message);
                None
            }
        }
    }

    /// Every value that a URL needs has to be known by then.
    fn look_for_values(&mut self, table: &Section, url: &DrillUrl, names: &[String]) {
        let mut texts = vec![("url", &url.path)];
        texts.extend(url.headers.iter().map(|(_, text)| ("headers", text)));
        match &url.body {
            Some(DrillBody::Form(form)) => {
                texts.extend(form.iter().map(|(_, text)| ("form", text)));
            }
            Some(DrillBody::Json(text)) => texts.push(("json", text)),
            None => {}
        }
        let authority = url.authority.clone().map(DrillText);
        texts.extend(authority.iter().map(|text| ("url", text)));
        for (key, text) in texts {
            for name in text.names() {
                if !names.iter().any(|known| known == name) {
                    let offset = table.offset_of(key).unwrap_or(table.offset);
                    let message = format!(
                        "`{{{name}}}` is not known here: `values` has no such name, and no URL before this one takes it"
                    );
                    self.problems.add(offset, message);
                }
            }
        }
    }
}

/// Whether a text is a path of a URL as it goes over the wire, but for values in braces.
fn is_path(text: &str) -> bool {
    text.starts_with('/')
        && text
            .bytes()
            .all(|letter| letter.is_ascii_graphic() && !matches!(letter, b'#' | b'"' | b'<' | b'>'))
}
