//! What a drill asks of the restored app over HTTP, as one visitor who keeps his cookies.
//!
//! Invariant: nothing is asked but on this machine, no answer fills the memory, none is waited for without an end, and no
//! value of the configuration stands in what is told.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use ureq::http::{HeaderMap, Request, header};
use ureq::{Agent, Body};
use zeroize::Zeroizing;

use super::{Done, Drill, surroundings};
use crate::config::{DrillBody, DrillText, DrillUrl};
use crate::text::shown_path;

/// Of an answer whose text is looked into no more is read.
const TEXT_BYTES_MAX: u64 = 8 << 20;
/// A visitor is sent on no further.
const REDIRECTS_MAX: u32 = 10;
/// Cookies that an app may leave, and the length of one.
const COOKIES_MAX: usize = 50;
const COOKIE_BYTES_MAX: usize = 8 << 10;

/// The app as a visitor knows it.
pub(super) struct Site {
    agent: Agent,
    /// Where the app listens that the drill has started.
    port: Option<u16>,
    /// By which name it is called.
    host: Option<String>,
    /// By authority and name. Path, domain and `Secure` are left aside: the visitor calls one app by one name, and the
    /// app is told that it is called over HTTPS where that matters to it.
    cookies: BTreeMap<(String, String), String>,
    values: BTreeMap<String, Zeroizing<String>>,
}

/// What came of a look at a path.
pub(super) enum Asked {
    /// The answer's status.
    Status(u16),
    /// Why there is none.
    Nothing(String),
}

/// What is sent, with all values in place.
struct Question {
    method: String,
    authority: String,
    path: Zeroizing<String>,
    headers: Vec<(String, Zeroizing<String>)>,
    body: Option<(&'static str, Zeroizing<Vec<u8>>)>,
}

/// What an answer has to be, or what is looked for in it.
enum Wanted {
    /// Its text is read.
    Text,
    /// A file of this length and hash.
    File { len_bytes: u64, sha256: [u8; 32] },
}

/// What is wrong with an answer, as words behind "the URL NAME ".
enum Wrong {
    /// The answer is another.
    Other(String),
    /// There is none, or the app itself calls it a failure: then what the app said besides may tell why.
    Failed(String),
}

impl From<String> for Wrong {
    fn from(words: String) -> Self {
        Self::Other(words)
    }
}

impl Drill<'_> {
    /// Asks at one URL; nothing when the answer is as it should be.
    pub(super) fn url(&mut self, url: &DrillUrl, site: &mut Site) -> Done<Option<String>> {
        let wanted = match &url.sha256_of {
            None => Wanted::Text,
            Some((source, path)) => {
                let file = self.scratch.files().join(source).join(path);
                match hash(&file) {
                    Ok((len_bytes, sha256)) => Wanted::File { len_bytes, sha256 },
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        return Ok(Some(format!(
                            "the answer of the URL {} cannot be compared, for {source}:{path} is not in the snapshot",
                            url.name
                        )));
                    }
                    Err(error) => return Err(surroundings(&error)),
                }
            }
        };
        let answered = self.while_asked(|| site.ask(url, &wanted));
        let Err(wrong) = answered else {
            return Ok(None);
        };
        self.going_on()?;
        let (words, said) = match (wrong, &self.service) {
            (Wrong::Failed(words), Some(service)) => (words, service.running.last_words()),
            (Wrong::Failed(words) | Wrong::Other(words), _) => (words, String::new()),
        };
        let said = site.hide(said);
        Ok(Some(format!("the URL {} {words}{said}", url.name)))
    }
}

impl Drill<'_> {
    /// Has somebody else ask, and ends the app when the drill is to stop: with it all waiting ends.
    pub(super) fn while_asked<T: Send>(&mut self, ask: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let asked = scope.spawn(ask);
            while !asked.is_finished() {
                if self.stop.load(Ordering::Relaxed)
                    && let Some(service) = &mut self.service
                {
                    let _ = service.running.end();
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            asked.join().expect("no thread panics while it asks")
        })
    }
}

impl Site {
    pub(super) fn new(
        port: Option<u16>,
        host: Option<String>,
        values: BTreeMap<String, Zeroizing<String>>,
    ) -> Self {
        let config = Agent::config_builder()
            // What is asked is on this machine, and who asks sees every answer himself.
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent("lifeboat-drill")
            .max_idle_connections(0)
            .build();
        Self {
            agent: config.into(),
            port,
            host,
            cookies: BTreeMap::new(),
            values,
        }
    }

    fn own_authority(&self) -> String {
        format!("127.0.0.1:{}", self.port.unwrap_or(0))
    }

    /// Looks whether anything answers at a path of the app.
    pub(super) fn look(&self, path: &str, timeout: Duration) -> Asked {
        let question = Question {
            method: "GET".to_owned(),
            authority: self.own_authority(),
            path: Zeroizing::new(path.to_owned()),
            headers: Vec::new(),
            body: None,
        };
        match self.send(&question, timeout) {
            Ok((status, _, _)) => Asked::Status(status),
            Err(Wrong::Failed(words) | Wrong::Other(words)) => {
                Asked::Nothing(format!("{path} {words}"))
            }
        }
    }

    /// Asks, follows the app where it sends the visitor, and looks at the answer.
    fn ask(&mut self, url: &DrillUrl, wanted: &Wanted) -> Result<(), Wrong> {
        let deadline = Instant::now() + url.timeout;
        let mut question = self.question(url);
        let goes_on = !(300..400).contains(&url.status);
        for _ in 0..=REDIRECTS_MAX {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(slow(url.timeout));
            }
            let answer = self.send(&question, left);
            let (status, headers, body) = answer.map_err(|wrong| {
                if Instant::now() >= deadline {
                    slow(url.timeout)
                } else {
                    wrong
                }
            })?;
            self.keep_cookies(&question.authority, &headers);
            let location = headers.get(header::LOCATION);
            if let Some(location) = location.filter(|_| goes_on && is_redirect(status)) {
                let path = self.path_of(&question, location.to_str().unwrap_or_default())?;
                if status != 307 && status != 308 && question.method != "HEAD" {
                    question.method = "GET".to_owned();
                    question.body = None;
                }
                question.path = Zeroizing::new(path);
                continue;
            }
            if status != url.status {
                let words = format!("answers {status}, and not {}", url.status);
                return Err(if status >= 500 {
                    Wrong::Failed(words)
                } else {
                    words.into()
                });
            }
            let read = self.look_into(url, wanted, body);
            return read.map_err(|wrong| {
                if Instant::now() >= deadline {
                    slow(url.timeout)
                } else {
                    wrong
                }
            });
        }
        Err(Wrong::Other(
            "sends its visitor from one place to the next without an end".to_owned(),
        ))
    }

    fn question(&self, url: &DrillUrl) -> Question {
        let authority = url.authority.as_ref().map_or_else(
            || self.own_authority(),
            |authority| authority.replace("{port}", &self.port.unwrap_or(0).to_string()),
        );
        let value = |name: &str| self.values.get(name).map_or("", |value| value.as_str());
        let plain = |text: &DrillText| Zeroizing::new(text.fill(|name| value(name).to_owned()));
        let body = url.body.as_ref().map(|body| match body {
            DrillBody::Form(fields) => {
                let mut form = Zeroizing::new(String::new());
                for (name, text) in fields {
                    let sign = if form.is_empty() { "" } else { "&" };
                    form.push_str(&format!(
                        "{sign}{}={}",
                        escaped(name),
                        escaped(&plain(text))
                    ));
                }
                let bytes = Zeroizing::new(form.as_bytes().to_vec());
                ("application/x-www-form-urlencoded", bytes)
            }
            DrillBody::Json(text) => {
                let text = text.fill(|name| {
                    let quoted = serde_json::Value::from(value(name)).to_string();
                    quoted[1..quoted.len() - 1].to_owned()
                });
                ("application/json", Zeroizing::new(text.into_bytes()))
            }
        });
        Question {
            method: url.method.clone(),
            path: Zeroizing::new(url.path.fill(|name| escaped(value(name)))),
            headers: url
                .headers
                .iter()
                .map(|(name, text)| (name.clone(), plain(text)))
                .collect(),
            authority,
            body,
        }
    }

    fn send(
        &self,
        question: &Question,
        timeout: Duration,
    ) -> Result<(u16, HeaderMap, Body), Wrong> {
        let Question {
            method,
            authority,
            path,
            headers,
            body,
        } = question;
        let mut request = Request::builder()
            .method(method.as_str())
            .uri(format!("http://{authority}{}", path.as_str()));
        if let Some(host) = self
            .host
            .as_ref()
            .filter(|_| *authority == self.own_authority())
        {
            let https = format!("https://{host}");
            let page = format!("{https}/");
            let own = [
                (header::HOST, host.as_str()),
                (
                    header::HeaderName::from_static("x-forwarded-proto"),
                    "https",
                ),
                (header::ORIGIN, &https),
                (header::REFERER, &page),
            ];
            for (name, value) in own {
                let is_given = |(given, _): &(String, _)| name.as_str().eq_ignore_ascii_case(given);
                if !headers.iter().any(is_given) {
                    request = request.header(name, value);
                }
            }
        }
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .filter(|((of, _), _)| of == authority)
            .map(|((_, name), value)| format!("{name}={value}"))
            .collect();
        if !cookies.is_empty() {
            request = request.header(header::COOKIE, cookies.join("; "));
        }
        for (name, value) in headers {
            request = request.header(name, value.as_str());
        }
        let answered = match body {
            Some((kind, bytes)) => {
                let request = request.header(header::CONTENT_TYPE, *kind);
                let request = request
                    .body(bytes.to_vec())
                    .map_err(|error| unaskable(&error))?;
                self.agent.run(self.within(request, timeout))
            }
            None => {
                let request = request.body(()).map_err(|error| unaskable(&error))?;
                self.agent.run(self.within(request, timeout))
            }
        };
        let (parts, body) = answered.map_err(|error| unanswered(&error))?.into_parts();
        Ok((parts.status.as_u16(), parts.headers, body))
    }

    fn within<B: ureq::AsSendBody>(&self, request: Request<B>, timeout: Duration) -> Request<B> {
        let request = self.agent.configure_request(request);
        request.timeout_global(Some(timeout)).build()
    }

    /// The path to which the app sends its visitor; an error when it is another place.
    fn path_of(&self, question: &Question, location: &str) -> Result<String, Wrong> {
        let whole = ["http://", "https://", "//"]
            .iter()
            .find_map(|scheme| location.strip_prefix(scheme));
        let path = if let Some(rest) = whole {
            let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            let is_the_app = authority == question.authority
                || (question.authority == self.own_authority()
                    && self.host.as_deref() == Some(authority));
            if !is_the_app {
                let place = shown_path(authority.as_bytes());
                return Err(format!("sends its visitor away from the app, to {place}").into());
            }
            match path {
                "" => "/".to_owned(),
                path if path.starts_with('?') => format!("/{path}"),
                path => path.to_owned(),
            }
        } else if location.starts_with('/') {
            location.to_owned()
        } else {
            let path = question.path.split(['?', '#']).next().unwrap_or("/");
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            match location {
                "" => {
                    return Err("sends its visitor on without saying where to"
                        .to_owned()
                        .into());
                }
                query if query.starts_with('?') => format!("{path}{query}"),
                name => format!("{folder}/{name}"),
            }
        };
        Ok(path.split('#').next().unwrap_or("/").to_owned())
    }

    fn keep_cookies(&mut self, authority: &str, headers: &HeaderMap) {
        for cookie in headers.get_all(header::SET_COOKIE) {
            let text = cookie.to_str().unwrap_or_default();
            let (pair, attributes) = text.split_once(';').unwrap_or((text, ""));
            let Some((name, value)) = pair.split_once('=') else {
                continue;
            };
            let key = (authority.to_owned(), name.trim().to_owned());
            let lower = attributes.to_ascii_lowercase();
            let is_gone = lower.contains("max-age=0")
                || lower.contains("max-age=-")
                || lower.contains(" 1970 ")
                || lower.contains("-1970 ");
            if is_gone {
                self.cookies.remove(&key);
            } else if text.len() <= COOKIE_BYTES_MAX
                && (self.cookies.len() < COOKIES_MAX || self.cookies.contains_key(&key))
            {
                self.cookies.insert(key, value.trim().to_owned());
            }
        }
    }

    /// Holds the answer against what is wanted, and takes values out of it.
    fn look_into(&mut self, url: &DrillUrl, wanted: &Wanted, mut body: Body) -> Result<(), Wrong> {
        let mut reader = body.as_reader();
        match wanted {
            Wanted::File { len_bytes, sha256 } => {
                let other = "answers with another file than the one that it should: its";
                let (read, found) =
                    hash_of(&mut reader.take(len_bytes + 1)).map_err(|error| broken_off(&error))?;
                if read != *len_bytes {
                    return Err(format!("{other} length is another").into());
                }
                if found != *sha256 {
                    return Err(format!("{other} SHA-256 is another").into());
                }
                Ok(())
            }
            Wanted::Text => {
                let mut bytes = Zeroizing::new(Vec::new());
                let mut limited = (&mut reader).take(TEXT_BYTES_MAX + 1);
                limited
                    .read_to_end(&mut bytes)
                    .map_err(|error| broken_off(&error))?;
                if bytes.len() as u64 > TEXT_BYTES_MAX {
                    return Err(
                        format!("answers with more than {} MiB", TEXT_BYTES_MAX >> 20).into(),
                    );
                }
                let text = Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned());
                if let Some(wanted) = url
                    .contains
                    .as_ref()
                    .filter(|&wanted| !text.contains(wanted))
                {
                    return Err(format!("answers without the text `{wanted}`").into());
                }
                for take in &url.take {
                    let found = text
                        .split_once(&take.before)
                        .and_then(|(_, rest)| rest.split_once(&take.behind));
                    let Some((value, _)) = found else {
                        return Err(format!("answers without the value {}", take.name).into());
                    };
                    let value = Zeroizing::new(value.to_owned());
                    self.values.insert(take.name.clone(), value);
                }
                Ok(())
            }
        }
    }

    /// A text of the app without the values that it was given.
    fn hide(&self, mut text: String) -> String {
        let values = self.values.iter().filter(|(name, _)| *name != "port");
        for (_, value) in values.filter(|(_, value)| !value.is_empty()) {
            text = text.replace(value.as_str(), "***");
        }
        text
    }
}

fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

fn slow(timeout: Duration) -> Wrong {
    Wrong::Failed(format!(
        "does not answer within {} s",
        timeout.as_secs_f32()
    ))
}

fn unaskable(error: &ureq::http::Error) -> Wrong {
    Wrong::Other(format!("cannot be asked: {error}"))
}

fn unanswered(error: &ureq::Error) -> Wrong {
    Wrong::Failed(format!("does not answer: {error}"))
}

fn broken_off(error: &io::Error) -> Wrong {
    Wrong::Failed(format!("answers and does not come to an end: {error}"))
}

/// A text as a form and a path have it: what has no other meaning there.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// The length and SHA-256 of a file.
fn hash(path: &std::path::Path) -> io::Result<(u64, [u8; 32])> {
    hash_of(&mut File::open(path)?)
}

fn hash_of(from: &mut dyn Read) -> io::Result<(u64, [u8; 32])> {
    let (mut hasher, mut len_bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok((len_bytes, hasher.finalize().into())),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                len_bytes += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
