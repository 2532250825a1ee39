//! The app itself in a drill: started on what was restored, asked as a visitor asks it, and ended.
//!
//! **Invariant**: nothing of it stays, whatever it does, and no password of the configuration is told.

use std::{
    fs,
    net::TcpStream,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{
    cluster::client,
    program::{Ran, ends_soon},
    shop::{Shop, names_it, sentences},
};

const PASSWORD: &str = "correct horse";

/// A web shop in a few lines: it asks the restored database and gives the restored files.
const APP: &str = r##"
import http.server, itertools, os, subprocess, sys, time, urllib.parse
psql, seen = sys.argv[1], itertools.count()
def ask(sql):
    return subprocess.run([psql, "-XAtc", sql], check=True, capture_output=True, text=True).stdout.strip()
class App(http.server.BaseHTTPRequestHandler):
    def answer(self, status, body="", **headers):
        body = body if isinstance(body, bytes) else body.encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        path = self.path.split("?")[0]
        if path == "/health":
            self.answer(200 if next(seen) > 1 else 503)
        elif path == "/login":
            self.answer(200, "<input name='csrf' value='to+ken'>", Set_Cookie="csrf=1; Path=/; Secure")
        elif path == "/orders":
            if self.headers.get("Cookie") != "csrf=1; session=yes":
                return self.answer(302, Location="/login")
            self.answer(200, ask("SELECT count(*) FROM orders") + " orders for " + self.headers["Host"])
        elif path.startswith("/media/"):
            with open(os.environ["LIFEBOAT_DRILL_FILES"] + path, "rb") as file:
                self.answer(200, file.read())
        elif path == "/hang":
            self.send_response(200)
            self.send_header("Content-Length", "10")
            self.end_headers()
            self.wfile.write(b"half")
            time.sleep(600)
        elif path == "/huge":
            self.send_response(200)
            self.end_headers()
            while True:
                self.wfile.write(bytes(1 << 20))
        elif path == "/away":
            self.answer(302, Location="http://shop.invalid/")
        elif path == "/round":
            self.answer(302, Location="/round")
        else:
            print("no such thing for", os.environ.get("SAYS"), file=sys.stderr, flush=True)
            self.answer(500)
    def do_POST(self):
        length = int(self.headers["Content-Length"])
        form = dict(urllib.parse.parse_qsl(self.rfile.read(length).decode()))
        right = form["password"] == ask("SELECT password FROM account") and form["csrf"] == "to+ken"
        if right and self.headers.get("Cookie") == "csrf=1":
            self.answer(303, Location="https://shop.example.org/orders", Set_Cookie="session=yes; Secure")
        else:
            self.answer(200, "wrong password: " + form["password"])
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["LIFEBOAT_DRILL_PORT"])), App).serve_forever()
"##;

/// The shop, backed up, whose app can be started.
fn shop() -> Shop {
    let shop = Shop::new("");
    shop.sql(&format!(
        "CREATE TABLE account (password text); INSERT INTO account VALUES ('{PASSWORD}')"
    ));
    fs::write(shop.machine.path("app.py"), APP).unwrap();
    fs::write(shop.machine.path("password"), format!("{PASSWORD}\n")).unwrap();
    shop.back_up();
    shop
}

/// Lines that start the app.
fn service(shop: &Shop) -> String {
    let (app, psql) = (shop.machine.path("app.py"), client(&shop.cluster, "psql"));
    format!(
        "[app.shop.drill.service]\nrun = [\"python3\", \"{}\", \"{}\"]\nready = \"/health\"\nhost = \"shop.example.org\"\n",
        app.display(),
        psql.display()
    )
}

const LOGIN: &str = r#"
[app.shop.drill.url.form]
url = "/login"
take = ["token: name='csrf' value='*'"]

[app.shop.drill.url.login]
url = "/login"
form = ["user=drill", "password={password}", "csrf={token}"]
contains = "1000 orders for shop.example.org"

[app.shop.drill.url.attachment]
url = "/media/sub/b.jpg"
sha256-of = "media:sub/b.jpg"
"#;

/// The configuration of a shop that has no database, which takes a drill a moment; with these lines about the drill.
fn without_database(shop: &Shop, drill: &str) {
    let text = format!("[app.shop.media.media]\npath = \"media\"\n{drill}");
    fs::write(shop.machine.path("lifeboat.toml"), text).unwrap();
}

/// Asks one URL, and gives the report.
#[track_caller]
fn asked(shop: &Shop, lines: &str, code: i32) -> Value {
    let text = format!("{}[app.shop.drill.url.one]\n{lines}", service(shop));
    without_database(shop, &text);
    shop.drill(code)
}

#[test]
fn a_visitor_logs_in_sees_the_rows_and_gets_a_file() {
    let shop = shop();
    let port = shop.machine.path("port");
    let drill = format!(
        "values = [\"password: file:password\"]\n{}{LOGIN}\n[app.shop.drill.command.look]\nrun = [\"sh\", \"-c\", \"echo $LIFEBOAT_DRILL_PORT > {}\"]\n",
        service(&shop),
        port.display()
    );
    shop.configure("", &drill);
    let ran = shop.run(&["drill", "shop", "--json"]).done();
    shop.is_clean();
    let report = ran.summary();
    assert_eq!(report["verdict"], "passed", "{report}");
    let checks: Vec<&str> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| check["check"].as_str().unwrap())
        .collect();
    assert_eq!(checks, ["service", "form", "login", "attachment", "look"]);
    assert!(!format!("{ran:?}").contains("horse"), "{ran:?}");
    // Nobody listens there any more.
    let port: u16 = fs::read_to_string(port).unwrap().trim().parse().unwrap();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn a_wrong_password_is_named_and_never_told() {
    let shop = shop();
    fs::write(shop.machine.path("password"), "wrong horse\n").unwrap();
    let values = "values = [\"password: file:password\"]";
    shop.configure("", &format!("{values}\n{}{LOGIN}", service(&shop)));
    let ran = shop.run(&["drill", "shop", "--json"]).ends_with_code(4);
    let report = ran.summary();
    names_it(&report, &["the URL login", "without the text `1000 orders"]);
    let warnings = sentences(&report, "warnings");
    assert!(warnings[0].starts_with("1 further URLs"), "{warnings:?}");
    assert!(!format!("{ran:?}").contains("horse"), "{ran:?}");

    fs::remove_file(shop.machine.path("password")).unwrap();
    let ran = shop.run(&["drill", "shop"]);
    assert!(ran.explains(6).contains("the value password"), "{ran:?}");
    shop.is_clean();
}

#[test]
fn an_answer_that_is_not_as_it_should_be_is_named() {
    let shop = shop();
    without_database(&shop, "");
    shop.back_up();
    for (lines, words) in [
        (
            "url = \"/media/a.jpg\"\nsha256-of = \"media:sub/b.jpg\"",
            "its length is another",
        ),
        (
            "url = \"/media/none/../a.jpg\"\nsha256-of = \"media:none.jpg\"",
            "media:none.jpg is not in the snapshot",
        ),
        (
            "url = \"/hang\"\ntimeout = \"1s\"",
            "does not answer within 1 s",
        ),
        ("url = \"/huge\"", "more than 8 MiB"),
        ("url = \"/away\"", "away from the app, to shop.invalid"),
        ("url = \"/round\"", "without an end"),
        ("url = \"/nothing\"", "answers 500, and not 200: "),
        (
            "url = \"/orders\"\nstatus = 403",
            "answers 200, and not 403",
        ),
        ("url = \"http://127.0.0.1:9/\"", "does not answer"),
    ] {
        names_it(&asked(&shop, lines, 4), &["URL one", words]);
    }
    asked(&shop, "url = \"/away\"\nstatus = 302", 0);
    asked(&shop, "url = \"/orders\"\ncontains = \"csrf\"", 0);
    // Of the same length, so that nothing but the hash tells.
    let app = shop.machine.path("app.py");
    fs::write(&app, APP.replace("file.read()", "b'wrong'")).unwrap();
    let lines = "url = \"/media/a.jpg\"\nsha256-of = \"media:a.jpg\"";
    names_it(
        &asked(&shop, lines, 4),
        &["URL one", "its SHA-256 is another"],
    );
}

#[test]
fn an_app_that_does_not_get_ready_is_judged_and_one_that_cannot_be_started_is_not() {
    let shop = shop();
    without_database(&shop, "");
    shop.back_up();
    let run = |run: &str| {
        let text = format!("[app.shop.drill.service]\nrun = {run}\ntimeout = \"2s\"\n");
        without_database(&shop, &text);
    };
    run("[\"/no/such/app\"]");
    let ran = shop.run(&["drill", "shop"]);
    assert!(
        ran.explains(6)
            .contains("the app cannot be started: /no/such/app"),
        "{ran:?}"
    );
    shop.is_clean();
    run("[\"sh\", \"-c\", \"echo relation users does not exist; exit 3\"]");
    names_it(
        &shop.drill(4),
        &["does not start", "exit status: 3", "relation users"],
    );
    run("[\"sleep\", \"600\"]");
    names_it(
        &shop.drill(4),
        &["is not ready within 2 s", "does not answer"],
    );
    let broken = service(&shop).replace("\"/health\"", "\"/broken\"\ntimeout = \"2s\"");
    without_database(&shop, &broken);
    names_it(
        &shop.drill(4),
        &[
            "is not ready within 2 s: /broken answers 500",
            "no such thing",
        ],
    );
    without_database(
        &shop,
        "[app.shop.drill.command.slow]\nrun = [\"sleep\", \"600\"]\ntimeout = \"1s\"",
    );
    names_it(&shop.drill(4), &["command slow", "did not end within 1 s"]);
}

#[test]
fn a_drill_that_is_stopped_or_killed_leaves_no_app() {
    let shop = shop();
    let pid = shop.machine.path("pid");
    let text = service(&shop).replace(
        "[\"python3\"",
        &format!(
            "[\"sh\", \"-c\", \"echo $$ > {}; exec python3 $0 $1\"",
            pid.display()
        ),
    );
    let hang = "[app.shop.drill.url.hang]\nurl = \"/hang\"\ntimeout = \"10m\"\n";
    shop.configure("", &format!("{text}{hang}"));
    for signal in [Signal::INT, Signal::KILL] {
        let _ = fs::remove_file(&pid);
        let mut child = shop
            .command(&["drill", "shop", "--verbose"])
            .spawn()
            .unwrap();
        let begun = Instant::now();
        let app = loop {
            let read = fs::read_to_string(&pid).unwrap_or_default();
            if let Ok(number) = read.trim().parse() {
                break Pid::from_raw(number).unwrap();
            }
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "the app was started"
            );
            std::thread::sleep(Duration::from_millis(20));
        };
        std::thread::sleep(Duration::from_secs(2));
        let is_alive = || {
            fs::read_to_string(format!("/proc/{}/stat", app.as_raw_nonzero()))
                .is_ok_and(|stat| !stat.contains(") Z "))
        };
        assert!(is_alive());
        kill_process(Pid::from_child(&child), signal).unwrap();
        let code = ends_soon(&mut child);
        if signal == Signal::INT {
            assert_eq!(code, Some(130));
        } else {
            assert!(is_alive(), "nobody has ended the app yet");
            shop.configure("", "");
            shop.drill(0);
        }
        assert!(!is_alive());
        shop.is_clean();
    }
    let ran: Ran = shop.run(&["snapshots"]);
    ran.done();
}
