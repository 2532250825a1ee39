//! The keys of `lifeboat.toml`: the one list of them.
//!
//! The parser knows no other key, `config explain` speaks these words, and `config init` writes them out as a
//! template. A key is named by its path; the part `NAME` stands for a name that people choose. Invariant: a key that
//! is accepted has a meaning; one that the contract promises for later is listed as [`Form::Later`] and refused, for
//! a setting that does nothing is a lie.

/// The part of a path that stands for a chosen name.
pub(super) const CHOSEN: &str = "NAME";

/// What may stand behind a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// More keys.
    Table,
    /// One text.
    Text,
    /// One path; a relative one is taken from the folder of the file.
    Path,
    /// A secret: `file:PATH`, `env:VARIABLE`, or the secret itself.
    Secret,
    /// true or false.
    Flag,
    /// A whole number.
    Number,
    /// A list of texts.
    Texts,
    /// A list of paths.
    Paths,
    /// Nothing: this version refuses the key.
    Later,
}

impl Form {
    /// The form in words that complete "must be".
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Table => "a table",
            Self::Text | Self::Secret => "a text",
            Self::Path => "a path",
            Self::Flag => "true or false",
            Self::Number => "a number",
            Self::Texts => "a list of texts",
            Self::Paths => "a list of paths",
            Self::Later => "left out",
        }
    }
}

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    /// Where it stands, part by part.
    pub(super) path: &'static str,
    pub(super) form: Form,
    /// Whether the table it stands in is nothing without it.
    pub(super) required: bool,
    /// Whole sentences for people.
    pub(super) about: &'static str,
    /// Its value in TOML as an example; for a chosen name, that name; nothing for a table.
    pub(super) example: &'static str,
}

const fn table(path: &'static str, about: &'static str) -> Key {
    Key {
        path,
        form: Form::Table,
        required: false,
        about,
        example: "",
    }
}

const fn chosen(path: &'static str, example: &'static str, about: &'static str) -> Key {
    Key {
        path,
        form: Form::Table,
        required: false,
        about,
        example,
    }
}

const fn optional(
    path: &'static str,
    form: Form,
    example: &'static str,
    about: &'static str,
) -> Key {
    Key {
        path,
        form,
        required: false,
        about,
        example,
    }
}

const fn required(
    path: &'static str,
    form: Form,
    example: &'static str,
    about: &'static str,
) -> Key {
    Key {
        path,
        form,
        required: true,
        about,
        example,
    }
}

const fn later(path: &'static str) -> Key {
    Key {
        path,
        form: Form::Later,
        required: false,
        about: "Not supported by this version.",
        example: "",
    }
}

/// Every key, in the order in which the template shows them.
#[rustfmt::skip] // one key, one line or two: the list is read as a table
static KEYS: &[Key] = &[
    optional("timezone", Form::Text, r#""Europe/Berlin""#,
        "The time zone in which times are read and shown, an IANA name. Without it: the machine's."),
    later("notify"),

    table("repository", "Where backups go. --repo or LIFEBOAT_REPOSITORY go before it."),
    required("repository.location", Form::Text, r#""/srv/lifeboat/repo""#,
        "The repository's folder."),
    optional("repository.password-file", Form::Path, r#""/etc/lifeboat/passphrase""#,
        "A file whose only line is the passphrase. Of this, password-command and key-file only one is given."),
    optional("repository.password-command", Form::Texts, r#"["pass", "show", "lifeboat"]"#,
        "A program and its arguments, run without a shell; the only line that it prints is the passphrase."),
    optional("repository.key-file", Form::Path, r#""/etc/lifeboat/key""#,
        "A key file that opens the repository instead of a passphrase."),

    table("copy", "Further repositories that hold copies of the snapshots."),
    chosen("copy.NAME", "offsite", "One further repository, under a name of your choice."),
    required("copy.NAME.location", Form::Text, r#""/mnt/offsite/lifeboat""#,
        "The folder of the further repository."),
    later("copy.NAME.after"),

    table("app", "The apps to protect."),
    chosen("app.NAME", "shop", "One app: sources that are backed up together, under a name of your choice."),
    optional("app.NAME.timezone", Form::Text, r#""Europe/Berlin""#,
        "The app's time zone, an IANA name. Without it: the timezone at the top."),
    later("app.NAME.schedule"),
    later("app.NAME.keep"),
    later("app.NAME.notify"),
    later("app.NAME.hooks"),

    table("app.NAME.postgres", "The app's PostgreSQL database."),
    required("app.NAME.postgres.url", Form::Text, r#""postgres://backup@db.internal/shop?sslmode=verify-full""#,
        "How to reach the database: a URL or a connection string of libpq. What it leaves out comes from PGHOST and its kin."),
    optional("app.NAME.postgres.password", Form::Secret, r#""file:/etc/lifeboat/shop.password""#,
        "The password: \"file:PATH\" (its first line), \"env:VARIABLE\", or the password itself. Without it: what libpq would find."),
    optional("app.NAME.postgres.skip-data", Form::Texts, r#"["public.sessions"]"#,
        "Tables that are kept without their rows, each as schema.table."),
    optional("app.NAME.postgres.engine", Form::Text, r#""pg_dump""#,
        "What reads the rows: \"native\", a stream for each table; or \"pg_dump\", one archive of everything. Without it native, where it can."),
    optional("app.NAME.postgres.via", Form::Texts, r#"["docker", "compose", "exec", "-T", "db"]"#,
        "What stands before PostgreSQL's programs where only they reach the server, without a shell; then url says how they reach it from there, and all of it is one archive of pg_dump."),
    optional("app.NAME.postgres.name", Form::Text, r#""db""#,
        "The source's name inside snapshots. Without it: db."),

    table("app.NAME.media", "The app's folders of files."),
    chosen("app.NAME.media.NAME", "uploads", "One folder; its name here is its name inside snapshots."),
    required("app.NAME.media.NAME.path", Form::Path, r#""/srv/shop/uploads""#,
        "The folder."),
    optional("app.NAME.media.NAME.exclude", Form::Texts, r#"["**/thumbs/**", "*.tmp"]"#,
        "What is left out, by the rules of .gitignore: a pattern without a slash matches a name anywhere, one with a slash the path from the folder."),
    optional("app.NAME.media.NAME.one-file-system", Form::Flag, "true",
        "Whether other file systems mounted below the folder are left out. Without it: false."),
    optional("app.NAME.media.NAME.exclude-caches", Form::Flag, "true",
        "Whether folders marked as caches by a CACHEDIR.TAG are left out. Without it: false."),
    optional("app.NAME.media.NAME.bundles", Form::Flag, "false",
        "Whether files that hold others (.gz, .tgz, .tar, .zip, .docx and their like) are taken apart, so that what they hold is stored once and only what changed in them is stored anew; that takes time. They come back byte for byte. Without it: true."),
    optional("app.NAME.media.NAME.referenced-by", Form::Texts, r#"["db:public.asset.file_path"]"#,
        "The columns whose rows name the folder's files: schema.table.column, in an SQLite database table.column; with several databases the source's name and a colon before it. Each path must be in the folder."),
    table("app.NAME.media.NAME.reference", "Columns that name the folder's files, with what else their rows know."),
    chosen("app.NAME.media.NAME.reference.NAME", "assets", "One such column, under a name of your choice."),
    required("app.NAME.media.NAME.reference.NAME.column", Form::Text, r#""db:public.asset.file_path""#,
        "The column, as in referenced-by."),
    optional("app.NAME.media.NAME.reference.NAME.below", Form::Text, r#""/media/""#,
        "What stands before the path in the folder."),
    optional("app.NAME.media.NAME.reference.NAME.size", Form::Text, r#""byte_size""#,
        "The column of the same table with the file's size in bytes."),
    optional("app.NAME.media.NAME.reference.NAME.sha256", Form::Text, r#""checksum""#,
        "The column of the same table with the SHA-256 of the file's content, in hexadecimal."),

    table("app.NAME.secrets", "Small files that the app needs to start again, such as its .env; restored only when asked for."),
    required("app.NAME.secrets.paths", Form::Paths, r#"["/srv/shop/.env", "/srv/shop/compose.yml"]"#,
        "The files."),

    table("app.NAME.sqlite", "The app's SQLite databases."),
    chosen("app.NAME.sqlite.NAME", "sessions", "One SQLite database; its name here is its name inside snapshots."),
    required("app.NAME.sqlite.NAME.path", Form::Path, r#""/srv/shop/sessions.db""#,
        "The database's file."),

    table("app.NAME.command", "Programs whose output is kept."),
    chosen("app.NAME.command.NAME", "legacy", "One program; its name here is its name inside snapshots."),
    required("app.NAME.command.NAME.run", Form::Texts, r#"["mariadb-dump", "--single-transaction", "wordpress"]"#,
        "The program and its arguments, run without a shell. When its exit status is not 0, there is no snapshot."),
    required("app.NAME.command.NAME.filename", Form::Text, r#""wordpress.sql""#,
        "The name of the file that the output becomes."),
    optional("app.NAME.command.NAME.bundles", Form::Flag, "false",
        "Whether an output that is packed (.gz, .tgz, .tar, .zip) is taken apart, as with an app's folders. Without it: true."),

    table("app.NAME.drill", "What a drill asks of the restored app."),
    later("app.NAME.drill.schedule"),
    optional("app.NAME.drill.checks", Form::Texts, r#"["db: SELECT count(*) > 0 FROM orders"]"#,
        "Statements that have to give one true value in the restored database; with several databases the source's name and a colon stand before each."),
    optional("app.NAME.drill.values", Form::Texts, r#"["password: file:/etc/lifeboat/drill.password"]"#,
        "Values that the texts of URLs name in braces: a name, a colon, and \"file:PATH\" (its first line), \"env:VARIABLE\", or the value itself. They are never shown."),
    table("app.NAME.drill.service", "The app itself, started on the restored databases and files for the time of the drill."),
    required("app.NAME.drill.service.run", Form::Texts, r#"["/srv/shop/bin/serve", "--bind", "127.0.0.1:{port}"]"#,
        "The program and its arguments, run without a shell; {port} and LIFEBOAT_DRILL_PORT are the free port that it has to listen on, the rest it is told as a command is."),
    optional("app.NAME.drill.service.ready", Form::Text, r#""/health""#,
        "The path that answers once the app is ready, with a status below 500. Without it: /."),
    optional("app.NAME.drill.service.host", Form::Text, r#""shop.example.org""#,
        "The name by which the app is called, where it listens to no other; then it is told too that it is called over HTTPS."),
    optional("app.NAME.drill.service.timeout", Form::Text, r#""2 minutes""#,
        "How long it may take until it is ready. Without it: one minute."),
    table("app.NAME.drill.url", "What is asked of the restored app over HTTP, one after the other; cookies are kept."),
    chosen("app.NAME.drill.url.NAME", "login", "One question, under a name of your choice."),
    required("app.NAME.drill.url.NAME.url", Form::Text, r#""/login""#,
        "The path, or a whole URL of this machine. A value from `values` or from an earlier answer stands in braces."),
    optional("app.NAME.drill.url.NAME.method", Form::Text, r#""POST""#,
        "The method. Without it GET, or POST where something is sent."),
    optional("app.NAME.drill.url.NAME.headers", Form::Texts, r#"["Accept: text/html"]"#,
        "Further headers."),
    optional("app.NAME.drill.url.NAME.form", Form::Texts, r#"["user=drill", "password={password}"]"#,
        "Fields of a form that is sent."),
    optional("app.NAME.drill.url.NAME.json", Form::Text, r#"'{"user": "drill", "password": "{password}"}'"#,
        "JSON that is sent, instead of a form."),
    optional("app.NAME.drill.url.NAME.status", Form::Number, "200",
        "The status of the answer, after redirects within the app; one of 300 to 399 is not followed. Without it: 200."),
    optional("app.NAME.drill.url.NAME.contains", Form::Text, r#""Orders""#,
        "What the answer's text has in it."),
    optional("app.NAME.drill.url.NAME.take", Form::Texts, r#"["token: name='csrf' value='*'"]"#,
        "Values for later questions: a name, a colon, and what stands in the answer's text before the value and behind it, with a * between."),
    optional("app.NAME.drill.url.NAME.sha256-of", Form::Text, r#""uploads:logos/logo.png""#,
        "The file of the snapshot that the answer has to be, byte for byte: a folder's name, a colon, and the path in it."),
    optional("app.NAME.drill.url.NAME.timeout", Form::Text, r#""30 seconds""#,
        "How long the answer may take. Without it: 30 seconds."),
    table("app.NAME.drill.command", "Programs that try the restored app."),
    chosen("app.NAME.drill.command.NAME", "login", "One program, under a name of your choice."),
    required("app.NAME.drill.command.NAME.run", Form::Texts, r#"["/usr/local/bin/try-login", "--quick"]"#,
        "The program and its arguments, run without a shell; it has to end with 0. LIFEBOAT_DRILL_FILES and LIFEBOAT_DRILL_DATABASE tell it where the restored app is."),
    optional("app.NAME.drill.command.NAME.timeout", Form::Text, r#""10 minutes""#,
        "How long it may take. Without it: one hour."),
];

/// The keys of the table at `path`, in order; those of the whole file at an empty path.
pub(super) fn keys_in(path: &str) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.parent() == path)
}

/// The key `name` of the table at `path`; a chosen name where the table holds such.
pub(super) fn key_in(path: &str, name: &str) -> Option<&'static Key> {
    keys_in(path)
        .find(|key| key.leaf() == name)
        .or_else(|| keys_in(path).find(|key| key.leaf() == CHOSEN))
}

/// Tables other than the one at `path` that have a key `name` with a meaning.
pub(super) fn elsewhere(path: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| {
        key.leaf() == name && key.form != Form::Later && name != CHOSEN && key.parent() != path
    })
}

impl Key {
    /// The last part of the path.
    pub(super) fn leaf(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }

    /// The path of the table that it stands in.
    pub(super) fn parent(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(parent, _)| parent)
    }
}

/// What a key is for, in whole sentences; `None` when there is no such key.
///
/// The key is named by its path, with chosen names (`app.shop.postgres.url`) or without (`app.NAME.postgres.url`).
#[must_use]
pub fn explain_key(key: &str) -> Option<&'static str> {
    let mut found: Option<&Key> = None;
    for part in key.split('.') {
        found = Some(key_in(found.map_or("", |key| key.path), part)?);
    }
    found.map(|key| key.about)
}

/// An example of `lifeboat.toml` with every key and what it is for.
///
/// Every key stands behind a `#`, so that the text as it is sets nothing.
#[must_use]
pub fn config_template() -> String {
    let mut text = String::from(
        "# The configuration of Lifeboat. Take away the # in front of a key to set it.\n\
         # Relative paths are taken from the folder of this file.\n",
    );
    write_keys("", "", &mut text);
    text
}

/// Writes the keys of the table at `path`, whose header in the example is `shown`.
fn write_keys(path: &str, shown: &str, text: &mut String) {
    for key in keys_in(path) {
        let shown_key = match (key.leaf(), shown) {
            (CHOSEN, _) => format!("{shown}.{}", key.example),
            (leaf, "") => leaf.to_owned(),
            (leaf, _) => format!("{shown}.{leaf}"),
        };
        match key.form {
            Form::Later => {}
            Form::Table => {
                text.push_str(&format!("\n{}", comment(key.about)));
                // A table that holds other tables only needs no header of its own.
                if keys_in(key.path).any(|key| key.form != Form::Table && key.form != Form::Later) {
                    text.push_str(&format!("#[{shown_key}]\n"));
                }
                write_keys(key.path, &shown_key, text);
            }
            _ => {
                text.push_str(&comment(key.about));
                text.push_str(&format!("#{} = {}\n", key.leaf(), key.example));
            }
        }
    }
}

/// `text` as lines of a comment, each up to 100 characters wide.
fn comment(text: &str) -> String {
    const WIDTH_MAX: usize = 100;
    let mut lines = String::new();
    let mut line = String::from("#");
    for word in text.split(' ') {
        if line.len() + 1 + word.len() > WIDTH_MAX {
            lines.push_str(&line);
            lines.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    lines + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_stands_in_a_table_of_the_list() {
        for key in KEYS {
            let parent = key.parent();
            assert!(
                parent.is_empty()
                    || KEYS
                        .iter()
                        .any(|key| key.path == parent && key.form == Form::Table)
            );
            assert_eq!(
                KEYS.iter().filter(|other| other.path == key.path).count(),
                1
            );
            assert!(key.about.ends_with('.'), "{}", key.path);
            assert_eq!(
                key.example.is_empty(),
                key.form == Form::Later || (key.form == Form::Table && key.leaf() != CHOSEN),
                "{}",
                key.path
            );
        }
    }

    #[test]
    fn a_key_is_explained_with_and_without_chosen_names() {
        let about = explain_key("app.NAME.postgres.skip-data").unwrap();
        assert_eq!(
            about,
            "Tables that are kept without their rows, each as schema.table."
        );
        assert_eq!(explain_key("app.shop.postgres.skip-data"), Some(about));
        assert_eq!(
            explain_key("app.shop.keep"),
            Some("Not supported by this version.")
        );
        assert!(explain_key("repository").is_some());
        for unknown in [
            "",
            "repo",
            "repository.",
            "repository.NAME",
            "app.shop.postgres.url.x",
            "location",
        ] {
            assert_eq!(explain_key(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn a_comment_is_wrapped_between_words() {
        let wrapped = comment(&"word ".repeat(50).trim_end().replace("word", "seven77"));
        assert!(
            wrapped
                .lines()
                .all(|line| line.starts_with("# ") && line.len() <= 100)
        );
        assert_eq!(wrapped.matches("seven77").count(), 50);
    }
}
