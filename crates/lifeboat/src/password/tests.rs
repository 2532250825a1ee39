//! Where a secret comes from.

use std::{fs, os::unix::fs::PermissionsExt};

use lifeboat_codec::encode_recovery;

use super::*;

type Variables<'a> = &'a [(&'a str, &'a str)];

fn lookup(variables: Variables<'_>) -> impl Fn(&str) -> Option<OsString> {
    move |name| {
        variables
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| OsString::from(value))
    }
}

fn found(named: Named<'_>, variables: Variables<'_>) -> Source {
    source(named, &lookup(variables)).unwrap()
}

fn words(source: &Source, variables: Variables<'_>) -> Result<String, CommandError> {
    match source.read(&lookup(variables), &Interrupt::default())? {
        Credential::Passphrase(words) => Ok(words.to_string()),
        Credential::KeyFile(_) => Ok("a key file".to_owned()),
        Credential::Recovery(_) => Ok("a recovery key".to_owned()),
    }
}

fn shown(error: &CommandError) -> String {
    let lines = error.lines().into_iter();
    lines
        .map(|(label, text)| format!("{label} {text}\n"))
        .collect()
}

fn file(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    fs::write(&path, content).unwrap();
    (folder, path)
}

#[test]
fn the_argument_comes_before_the_environment_and_that_before_the_configuration() {
    let argument = Path::new("/from/argument");
    let configured = Source::KeyFile("/from/configuration".into());
    let all = Named {
        argument: Some(argument),
        configured: Some(&configured),
    };
    let only_configured = Named {
        argument: None,
        ..all
    };
    let variables = [(PASSWORD_FILE, "/from/environment")];
    assert_eq!(found(all, &variables), Source::File(argument.into()));
    assert_eq!(
        found(only_configured, &variables),
        Source::File("/from/environment".into())
    );
    assert_eq!(found(only_configured, &[]), configured);
}

#[test]
fn a_services_credential_counts_where_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let variables = [(CREDENTIALS, folder.path().to_str().unwrap())];
    let configured = Source::File("/from/configuration".into());
    let named = Named {
        argument: None,
        configured: Some(&configured),
    };
    assert_eq!(found(named, &variables), configured);
    let credential = folder.path().join(CREDENTIAL);
    fs::write(&credential, "words").unwrap();
    assert_eq!(found(named, &variables), Source::File(credential));
}

#[test]
fn two_variables_are_refused_and_empty_ones_are_none() {
    let both = [(PASSWORD, "a"), (KEY_FILE, "/k")];
    let error = source(Named::default(), &lookup(&both)).unwrap_err();
    assert_eq!(error.code(), ExitCode::Usage);
    assert_eq!(
        shown(&error),
        "error: both LIFEBOAT_PASSWORD and LIFEBOAT_KEY_FILE are set\nhint: Unset one of them.\n"
    );
    let one = [(PASSWORD, ""), (KEY_FILE, "/k")];
    assert_eq!(found(Named::default(), &one), Source::KeyFile("/k".into()));
}

#[test]
fn a_command_is_split_like_a_shell_does_and_runs_without_one() {
    let command = r#"sh -c 'printf "%s\n" "$0"' "two words; $HOME""#;
    let variables = [(PASSWORD_COMMAND, command)];
    let source = found(Named::default(), &variables);
    assert_eq!(words(&source, &variables).unwrap(), "two words; $HOME");

    let open_quote = [(PASSWORD_COMMAND, "pass 'show")];
    let error = super::source(Named::default(), &lookup(&open_quote)).unwrap_err();
    assert_eq!(error.code(), ExitCode::Usage);
}

#[test]
fn a_command_that_fails_gives_no_secret_and_its_arguments_are_not_shown() {
    let source = Source::Command(
        ["sh", "-c", "echo hunter2; exit 3"]
            .map(str::to_owned)
            .into(),
    );
    let error = words(&source, &[]).unwrap_err();
    assert_eq!(error.code(), ExitCode::WrongKey);
    let text = shown(&error);
    assert!(
        text.contains("the password command sh failed: exit status: 3"),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");

    let missing = Source::Command(vec!["/no/such/program".to_owned()]);
    let text = shown(&words(&missing, &[]).unwrap_err());
    assert!(text.contains("cannot be started"), "{text}");
}

#[test]
fn a_password_command_does_not_see_the_passphrase_variable() {
    // The test's own process has no such variable; the child would inherit it if it had.
    let source = Source::Command(
        ["sh", "-c", "echo ${LIFEBOAT_PASSWORD-none}"]
            .map(str::to_owned)
            .into(),
    );
    assert_eq!(words(&source, &[]).unwrap(), "none");
}

#[test]
fn a_files_passphrase_is_its_one_line() {
    for (content, passphrase) in [
        (&b"correct horse"[..], "correct horse"),
        (b"correct horse\n", "correct horse"),
        (b" spaces count \r\n", " spaces count "),
    ] {
        let (_folder, path) = file(content);
        assert_eq!(words(&Source::File(path), &[]).unwrap(), passphrase);
    }
    for (content, sentence) in [
        (&b""[..], "is empty"),
        (b"\n", "is empty"),
        (b"one\ntwo\n", "holds more than one line"),
        (b"\xff\xfe", "holds no text"),
    ] {
        let (_folder, path) = file(content);
        let error = words(&Source::File(path), &[]).unwrap_err();
        assert_eq!(error.code(), ExitCode::WrongKey);
        assert!(shown(&error).contains(sentence), "{}", shown(&error));
    }
}

#[test]
fn a_file_that_is_too_long_or_not_there_is_named() {
    let (_folder, path) = file(&vec![b'a'; SECRET_BYTES_MAX as usize + 1]);
    let text = shown(&words(&Source::File(path.clone()), &[]).unwrap_err());
    assert!(
        text.contains(path.to_str().unwrap()) && text.contains("too long"),
        "{text}"
    );
    let text = shown(&words(&Source::File("/no/such/file".into()), &[]).unwrap_err());
    assert!(
        text.contains("/no/such/file") && text.contains("hint:"),
        "{text}"
    );
}

#[test]
fn a_recovery_key_is_recognised_wherever_a_passphrase_is_read() {
    let key = encode_recovery(&Secret::new([7; 32]));
    let (_folder, path) = file(key.as_bytes());
    assert_eq!(
        words(&Source::File(path.clone()), &[]).unwrap(),
        "a recovery key"
    );
    let error = Source::File(path)
        .read_new(&|_| None, &Interrupt::default())
        .unwrap_err();
    assert_eq!(error.code(), ExitCode::Usage);
}

#[test]
fn a_key_file_that_is_none_is_named() {
    let (_folder, path) = file(b"just words\n");
    let text = shown(&words(&Source::KeyFile(path.clone()), &[]).unwrap_err());
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    assert!(text.contains("this is not a lifeboat key file"), "{text}");
}

#[test]
fn the_source_is_shown_without_any_secret() {
    let variables = [(PASSWORD, "hunter2")];
    assert_eq!(
        found(Named::default(), &variables).to_string(),
        "the variable LIFEBOAT_PASSWORD"
    );
    assert_eq!(words(&Source::Variable, &variables).unwrap(), "hunter2");
    let command = Source::Command(vec!["pass".to_owned(), "hunter2".to_owned()]);
    assert_eq!(command.to_string(), "the password command pass");
}

#[test]
fn a_secret_file_that_may_not_be_read_says_so() {
    let (_folder, path) = file(b"words");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    // Root may read everything; for others the file is named with the reason.
    if let Err(error) = words(&Source::File(path.clone()), &[]) {
        let text = shown(&error);
        assert!(
            text.contains(path.to_str().unwrap()) && text.contains("cause:"),
            "{text}"
        );
    }
}

#[test]
fn a_second_repository_has_a_secret_of_its_own_or_none() {
    let found = |argument: Option<&str>, variables: Variables<'_>| {
        other_source(argument.map(Path::new), &lookup(variables))
    };
    let both = [
        ("LIFEBOAT_TO_PASSWORD_FILE", "/words"),
        ("LIFEBOAT_TO_KEY_FILE", "/key"),
    ];
    assert_eq!(found(None, &[]).unwrap(), None);
    assert_eq!(
        found(None, &both[..1]).unwrap(),
        Some(Source::File("/words".into()))
    );
    assert_eq!(
        found(None, &both[1..]).unwrap(),
        Some(Source::KeyFile("/key".into()))
    );
    assert_eq!(
        found(Some("/argument"), &both).unwrap(),
        Some(Source::File("/argument".into()))
    );
    assert_eq!(found(None, &both).unwrap_err().code(), ExitCode::Usage);
}
