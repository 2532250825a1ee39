//! libpq's connection strings: text in, parameters out.
//!
//! Three forms are understood, as libpq does: a URL (`postgres://…`), a keyword string (`host=… dbname=…`) and a
//! bare database name. The table [`KEYWORDS`] is the whole list of what libpq knows, with the environment variable
//! of each keyword and what is done with it here. A keyword that would change whom we trust and that is not
//! supported is refused: it is never passed over in silence.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::quote;

/// What becomes of a keyword.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Use {
    /// It is read into the settings.
    Read,
    /// It is accepted and has no effect on a backup.
    Ignored,
    /// Only these values can be honoured.
    Only(&'static [&'static str]),
}

/// One keyword of libpq.
#[derive(Debug)]
pub(crate) struct Keyword {
    pub(crate) name: &'static str,
    pub(crate) variable: Option<&'static str>,
    pub(crate) uses: Use,
}

const fn read(name: &'static str, variable: &'static str) -> Keyword {
    Keyword {
        name,
        variable: Some(variable),
        uses: Use::Read,
    }
}

const fn read_text(name: &'static str) -> Keyword {
    Keyword {
        name,
        variable: None,
        uses: Use::Read,
    }
}

const fn ignored(name: &'static str, variable: Option<&'static str>) -> Keyword {
    Keyword {
        name,
        variable,
        uses: Use::Ignored,
    }
}

const fn only(
    name: &'static str,
    variable: Option<&'static str>,
    values: &'static [&'static str],
) -> Keyword {
    Keyword {
        name,
        variable,
        uses: Use::Only(values),
    }
}

/// Every keyword of libpq up to version 18.
pub(crate) const KEYWORDS: &[Keyword] = &[
    read("service", "PGSERVICE"),
    read("servicefile", "PGSERVICEFILE"),
    read("host", "PGHOST"),
    read("hostaddr", "PGHOSTADDR"),
    read("port", "PGPORT"),
    read("dbname", "PGDATABASE"),
    read("user", "PGUSER"),
    read("password", "PGPASSWORD"),
    read("passfile", "PGPASSFILE"),
    read("options", "PGOPTIONS"),
    read("application_name", "PGAPPNAME"),
    read("connect_timeout", "PGCONNECT_TIMEOUT"),
    read("channel_binding", "PGCHANNELBINDING"),
    read("sslmode", "PGSSLMODE"),
    read("sslrootcert", "PGSSLROOTCERT"),
    read("sslcert", "PGSSLCERT"),
    read("sslkey", "PGSSLKEY"),
    read("sslcrl", "PGSSLCRL"),
    read_text("fallback_application_name"),
    read_text("keepalives"),
    read_text("keepalives_idle"),
    read_text("keepalives_interval"),
    read_text("keepalives_count"),
    read_text("tcp_user_timeout"),
    ignored("client_encoding", Some("PGCLIENTENCODING")),
    ignored("sslcompression", Some("PGSSLCOMPRESSION")),
    ignored("krbsrvname", Some("PGKRBSRVNAME")),
    ignored("gsslib", Some("PGGSSLIB")),
    ignored("gssdelegation", Some("PGGSSDELEGATION")),
    ignored("load_balance_hosts", Some("PGLOADBALANCEHOSTS")),
    only("requiressl", Some("PGREQUIRESSL"), &["0"]),
    only("gssencmode", Some("PGGSSENCMODE"), &["disable", "prefer"]),
    only("sslnegotiation", Some("PGSSLNEGOTIATION"), &["postgres"]),
    only("sslcertmode", Some("PGSSLCERTMODE"), &["allow"]),
    only("sslsni", Some("PGSSLSNI"), &["1"]),
    only("sslpassword", None, &[]),
    only("sslcrldir", Some("PGSSLCRLDIR"), &[]),
    only("requirepeer", Some("PGREQUIREPEER"), &[]),
    only("require_auth", Some("PGREQUIREAUTH"), &[]),
    only("scram_client_key", None, &[]),
    only("scram_server_key", None, &[]),
    only("oauth_issuer", None, &[]),
    only("oauth_client_id", None, &[]),
    only("oauth_client_secret", None, &[]),
    only("oauth_scope", None, &[]),
    only(
        "min_protocol_version",
        Some("PGMINPROTOCOLVERSION"),
        &["3.0"],
    ),
    only(
        "max_protocol_version",
        Some("PGMAXPROTOCOLVERSION"),
        &["3.0", "latest"],
    ),
    only(
        "ssl_min_protocol_version",
        Some("PGSSLMINPROTOCOLVERSION"),
        &["TLSv1", "TLSv1.1", "TLSv1.2"],
    ),
    only(
        "ssl_max_protocol_version",
        Some("PGSSLMAXPROTOCOLVERSION"),
        &["TLSv1.3"],
    ),
    only(
        "target_session_attrs",
        Some("PGTARGETSESSIONATTRS"),
        &["any"],
    ),
    only("replication", None, &["false", "off", "no", "0"]),
];

/// The row of `name` in [`KEYWORDS`].
pub(crate) fn keyword(name: &str) -> Option<&'static Keyword> {
    KEYWORDS.iter().find(|keyword| keyword.name == name)
}

/// Values by keyword. An empty value means libpq's default, whatever the environment says.
#[derive(Clone, Default)]
pub(crate) struct Parameters(BTreeMap<&'static str, Zeroizing<String>>);

impl Parameters {
    /// The value given for `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.as_str())
    }

    /// Sets `name` when it is one of libpq's keywords; the last value holds.
    pub(crate) fn set(
        &mut self,
        name: &str,
        value: Zeroizing<String>,
    ) -> Result<(), ConninfoError> {
        let known = keyword(name).ok_or_else(|| unknown(name))?;
        if let Use::Only(allowed) = known.uses
            && !value.is_empty()
            && !allowed.contains(&value.as_str())
        {
            return Err(ConninfoError::Unsupported {
                keyword: known.name,
                allowed,
            });
        }
        self.0.insert(known.name, value);
        Ok(())
    }

    /// All of it as a keyword string.
    pub(crate) fn keywords(&self) -> Zeroizing<String> {
        // With room for everything, so that no half of it stays behind in memory.
        let room = |(name, value): (&&str, &Zeroizing<String>)| name.len() + 2 * value.len() + 4;
        let mut text = Zeroizing::new(String::with_capacity(self.0.iter().map(room).sum()));
        for (name, value) in &self.0 {
            text.push_str(name);
            text.push('=');
            text.push_str(&Zeroizing::new(quote::conninfo(value)));
            text.push(' ');
        }
        text
    }

    /// Sets `name` unless it has a value.
    pub(crate) fn set_default(
        &mut self,
        name: &str,
        value: Zeroizing<String>,
    ) -> Result<(), ConninfoError> {
        if self.0.contains_key(name) {
            return Ok(());
        }
        self.set(name, value)
    }
}

/// Why a connection string cannot be read. The text itself is never quoted: it may hold a password.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConninfoError {
    /// A keyword that libpq does not have.
    #[error("unknown connection parameter \"{0}\"")]
    Unknown(String),
    /// A word before `=` that no keyword can be, and so perhaps a piece of a password.
    #[error("a word before \"=\" in the connection string is no connection parameter")]
    NoKeyword,
    /// An address of another kind, or a mistyped one.
    #[error("the connection URL does not begin with \"postgres://\" or \"postgresql://\"")]
    Scheme,
    /// An `@` behind the one that ends the user part, or none before the `/` and one behind it.
    #[error(
        "the connection URL has an \"@\" in its host or database; in a user's name or password \"@\" is written as \
         \"%40\" and \"/\" as \"%2F\""
    )]
    StrayAt,
    /// A keyword or value that cannot be honoured here.
    #[error(
        "connection parameter {keyword} is not supported with this value{}",
        allowed_text(allowed)
    )]
    Unsupported {
        /// The keyword.
        keyword: &'static str,
        /// The values that are.
        allowed: &'static [&'static str],
    },
    /// A word without `=` in a keyword string.
    #[error(
        "\"=\" is missing after a word in the connection string; a value with spaces stands in single quotes"
    )]
    MissingEquals,
    /// A quoted value that never ends.
    #[error("a quoted value in the connection string does not end")]
    OpenQuote,
    /// A per cent sign that is not followed by two hexadecimal digits, or that stands for a zero byte.
    #[error("\"%\" must be followed by two hexadecimal digits other than 00 in the connection URL")]
    PercentEncoding,
    /// Percent-encoded bytes that are no text.
    #[error("the connection URL does not hold UTF-8 text after percent-decoding")]
    NotText,
    /// `[` without `]`.
    #[error("\"]\" is missing after the IPv6 address in the connection URL")]
    OpenBracket,
    /// Something unexpected after the host.
    #[error("the connection URL has an unexpected character after the host")]
    AfterHost,
    /// `?name` without `=`.
    #[error("a query parameter of the connection URL has no \"=\"")]
    QueryWithoutValue,
}

/// Repeats `name` only where it looks like a keyword: a mistyped address lands here whole, its password too.
fn unknown(name: &str) -> ConninfoError {
    let like_a_keyword = |letter: char| letter.is_ascii_lowercase() || letter == '_';
    if name.chars().all(like_a_keyword) {
        ConninfoError::Unknown(name.to_owned())
    } else {
        ConninfoError::NoKeyword
    }
}

fn allowed_text(allowed: &[&str]) -> String {
    match allowed {
        [] => String::new(),
        [one] => format!(" (only \"{one}\" is)"),
        several => format!(" (only \"{}\" are)", several.join("\", \"")),
    }
}

/// Reads a URL, a keyword string or a database name.
pub(crate) fn parse(text: &str) -> Result<Parameters, ConninfoError> {
    let text = text.trim();
    for scheme in ["postgresql://", "postgres://"] {
        if let Some(rest) = text.strip_prefix(scheme) {
            return parse_url(rest);
        }
    }
    if text.contains('=') {
        return parse_keywords(text);
    }
    // libpq would take a mistyped URL for the name of a database, and everybody would repeat it with its password.
    if text.contains([':', '/', '@']) {
        return Err(ConninfoError::Scheme);
    }
    let mut parameters = Parameters::default();
    if !text.is_empty() {
        parameters.set("dbname", Zeroizing::new(text.to_owned()))?;
    }
    Ok(parameters)
}

/// `rest` is everything after `//`.
fn parse_url(rest: &str) -> Result<Parameters, ConninfoError> {
    let mut parameters = Parameters::default();
    // As in libpq, the user part ends at the first `@` that comes before any `/`: a slash in a password must be encoded.
    let authority_end = rest.find('/').unwrap_or(rest.len());
    let rest = match rest[..authority_end].find('@') {
        Some(at) => {
            let (user, password) = match rest[..at].split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (&rest[..at], None),
            };
            set_decoded(&mut parameters, "user", user)?;
            if let Some(password) = password {
                set_decoded(&mut parameters, "password", password)?;
            }
            &rest[at + 1..]
        }
        None => rest,
    };
    let (rest, query) = match rest.split_once('?') {
        Some((rest, query)) => (rest, Some(query)),
        None => (rest, None),
    };
    let (location, database) = match rest.split_once('/') {
        Some((location, database)) => (location, database),
        None => (rest, ""),
    };
    // Nothing of this may be repeated: what stands here is the rest of a password that was not encoded.
    let is_split_password = parameters.get("user").is_none() && database.contains('@');
    if location.contains('@') || is_split_password {
        return Err(ConninfoError::StrayAt);
    }
    parse_location(&mut parameters, location)?;
    set_decoded(&mut parameters, "dbname", database)?;
    for pair in query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
    {
        let (name, value) = pair
            .split_once('=')
            .ok_or(ConninfoError::QueryWithoutValue)?;
        let name = decode(name)?;
        let value = decode(value)?;
        // JDBC's spelling, which libpq understands too.
        if name.as_str() == "ssl" && value.as_str() == "true" {
            parameters.set("sslmode", Zeroizing::new("require".to_owned()))?;
        } else {
            parameters.set(&name, value)?;
        }
    }
    Ok(parameters)
}

/// `host`, `host:port`, `[ipv6]:port`; lists of them stay lists, for the settings to refuse by name.
fn parse_location(parameters: &mut Parameters, location: &str) -> Result<(), ConninfoError> {
    let mut hosts = Vec::new();
    let mut ports = Vec::new();
    for part in location.split(',') {
        let (host, port) = match part.strip_prefix('[') {
            Some(inner) => {
                let (host, after) = inner.split_once(']').ok_or(ConninfoError::OpenBracket)?;
                let port = match after.strip_prefix(':') {
                    Some(port) => port,
                    None if after.is_empty() => "",
                    None => return Err(ConninfoError::AfterHost),
                };
                (host, port)
            }
            None => part.split_once(':').unwrap_or((part, "")),
        };
        hosts.push(host);
        ports.push(port);
    }
    set_decoded(parameters, "host", &hosts.join(","))?;
    set_decoded(parameters, "port", &ports.join(","))
}

/// An empty part of a URL leaves its keyword unset, as in libpq.
fn set_decoded(
    parameters: &mut Parameters,
    name: &str,
    encoded: &str,
) -> Result<(), ConninfoError> {
    if encoded.is_empty() {
        return Ok(());
    }
    parameters.set(name, decode(encoded)?)
}

fn decode(encoded: &str) -> Result<Zeroizing<String>, ConninfoError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(encoded.len()));
    let mut rest = encoded.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first != b'%' {
            bytes.push(*first);
            rest = tail;
            continue;
        }
        let digits = tail.get(..2).ok_or(ConninfoError::PercentEncoding)?;
        let high = hex_digit(digits[0])?;
        let low = hex_digit(digits[1])?;
        let byte = high * 16 + low;
        if byte == 0 {
            return Err(ConninfoError::PercentEncoding);
        }
        bytes.push(byte);
        rest = &tail[2..];
    }
    std::str::from_utf8(&bytes)
        .map(|text| Zeroizing::new(text.to_owned()))
        .map_err(|_| ConninfoError::NotText)
}

fn hex_digit(letter: u8) -> Result<u8, ConninfoError> {
    match letter {
        b'0'..=b'9' => Ok(letter - b'0'),
        b'a'..=b'f' => Ok(letter - b'a' + 10),
        b'A'..=b'F' => Ok(letter - b'A' + 10),
        _ => Err(ConninfoError::PercentEncoding),
    }
}

fn parse_keywords(text: &str) -> Result<Parameters, ConninfoError> {
    let mut parameters = Parameters::default();
    let mut letters = text.chars().peekable();
    loop {
        while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
        if letters.peek().is_none() {
            return Ok(parameters);
        }
        let mut name = String::new();
        while let Some(letter) = letters.next_if(|letter| *letter != '=' && !letter.is_whitespace())
        {
            name.push(letter);
        }
        while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
        if letters.next_if_eq(&'=').is_none() {
            return Err(ConninfoError::MissingEquals);
        }
        while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
        let quoted = letters.next_if_eq(&'\'').is_some();
        // Room for any value at once, so that a growing buffer leaves no copy of a password behind.
        let mut value = Zeroizing::new(String::with_capacity(text.len()));
        loop {
            match letters.next() {
                Some('\'') if quoted => break,
                Some('\\') => value.extend(letters.next()),
                Some(letter) if !quoted && letter.is_whitespace() => break,
                Some(letter) => value.push(letter),
                None if quoted => return Err(ConninfoError::OpenQuote),
                None => break,
            }
        }
        parameters.set(&name, value)?;
    }
}

#[cfg(test)]
mod tests;
