//! The sample app's PostgreSQL: a throw-away server with a database that has a bit of everything.
//!
//! It is there only where PostgreSQL's programs are installed; what is missing is said in a sentence.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use lifeboat_app::sentence;
use lifeboat_postgres::{
    Cluster, ClusterOptions, ProgramVersion, Programs, Settings, server_programs,
};

use crate::{context::environment, error::CommandError, exit_code::ExitCode};

/// The app's database on the server.
pub(super) const DATABASE: &str = "shop";

/// What the database is before the first backup.
const SCHEMA: &str = "
CREATE TYPE order_state AS ENUM ('open', 'paid', 'shipped');
CREATE TABLE customer (id serial PRIMARY KEY, name text NOT NULL, email text UNIQUE, address jsonb);
CREATE TABLE product (id serial PRIMARY KEY, name text NOT NULL, price numeric(10, 2) CHECK (price > 0));
CREATE TABLE orders (
    id bigserial PRIMARY KEY, customer_id int NOT NULL REFERENCES customer,
    state order_state NOT NULL DEFAULT 'open', placed timestamptz NOT NULL, remark text
);
CREATE TABLE order_line (
    order_id bigint REFERENCES orders ON DELETE CASCADE, product_id int REFERENCES product,
    quantity int NOT NULL, PRIMARY KEY (order_id, product_id)
);
CREATE TABLE contract (id serial PRIMARY KEY, customer_id int REFERENCES customer, scan oid NOT NULL);
INSERT INTO customer (name, email, address)
    SELECT 'Käthe Größe ' || n, 'customer' || n || '@example.com', jsonb_build_object('city', 'Köln', 'zip', 50000 + n)
    FROM generate_series(1, 500) n;
INSERT INTO product (name, price) SELECT 'Product ' || n, 1 + n * 0.37 FROM generate_series(1, 200) n;
INSERT INTO orders (customer_id, state, placed, remark)
    SELECT 1 + n % 500, (enum_range(NULL::order_state))[1 + n % 3], timestamptz '2026-01-01 08:00+00' + n * interval '17 minutes',
        CASE WHEN n % 4 = 0 THEN E'tab\\there, line\\nbreak, \\\\ and ''quote'' ' || md5(n::text) END
    FROM generate_series(1, 6000) n;
INSERT INTO order_line SELECT 1 + n % 6000, 1 + n % 200, 1 + n % 5 FROM generate_series(1, 12000) n ON CONFLICT DO NOTHING;
INSERT INTO contract (customer_id, scan)
    SELECT n, lo_from_bytea(0, decode(repeat(md5(n::text), 2000), 'hex')) FROM generate_series(1, 3) n;
CREATE INDEX orders_open ON orders (placed) WHERE state = 'open';
CREATE VIEW revenue AS
    SELECT o.customer_id, sum(l.quantity * p.price) AS total
    FROM orders o JOIN order_line l ON l.order_id = o.id JOIN product p ON p.id = l.product_id GROUP BY 1;
";

/// What happens to it between the two backups.
const CHANGE: &str = "
UPDATE orders SET state = 'shipped' WHERE id % 11 = 0;
DELETE FROM orders WHERE id % 97 = 0;
INSERT INTO orders (customer_id, placed) SELECT n, timestamptz '2026-05-01 08:00+00' FROM generate_series(1, 80) n;
ALTER TABLE customer ADD COLUMN phone text;
UPDATE customer SET phone = '+49 221 ' || id WHERE id % 10 = 0;
SELECT lo_put(scan, 100, 'signed') FROM contract WHERE id = 2;
DROP TABLE order_line CASCADE;
";

/// A running server with the app's database.
pub(super) struct Server {
    cluster: Cluster,
    programs: Programs,
}

impl Server {
    /// Starts a server with an empty database; an error is a sentence that says what lacks.
    pub(super) fn start() -> Result<Self, String> {
        let said = |error: &dyn std::error::Error| sentence(error);
        let programs = server_programs(None, environment()).map_err(|error| said(&error))?;
        let clients = Programs::find(programs.version().major, environment())
            .map_err(|error| said(&error))?;
        let cluster =
            Cluster::start(&programs, &ClusterOptions::default()).map_err(|error| said(&error))?;
        let server = Self {
            cluster,
            programs: clients,
        };
        server
            .run("postgres", &format!("CREATE DATABASE {DATABASE};"))
            .map_err(|error| error.facts().message)?;
        Ok(server)
    }

    /// The server's version.
    pub(super) fn version(&self) -> ProgramVersion {
        self.cluster.version()
    }

    /// Fills the database.
    pub(super) fn fill(&self) -> Result<(), CommandError> {
        self.run(DATABASE, SCHEMA)
    }

    /// Changes rows and tables.
    pub(super) fn change(&self) -> Result<(), CommandError> {
        self.run(DATABASE, CHANGE)
    }

    /// How `database` is reached, as a connection string that nothing in the environment changes.
    pub(super) fn address(&self, database: &str) -> String {
        let folder = self.cluster.folder().to_string_lossy();
        let folder = folder.replace('\\', "\\\\").replace('\'', "\\'");
        let settings = self.cluster.settings(database);
        format!(
            "host='{folder}' port={} user={} dbname={database} service='' hostaddr='' options='' sslmode=disable",
            settings.port(),
            settings.user(),
        )
    }

    /// All of `database` as SQL, without the words that are new in every dump, and the rows of each table in one order:
    /// SQL knows none, and they may have come back by their key.
    pub(super) fn dump(&self, database: &str) -> Result<Vec<u8>, CommandError> {
        let output = self
            .client("pg_dump", &self.cluster.settings(database))
            .stdin(Stdio::null())
            .output()
            .map_err(|error| failed("pg_dump", &error))?;
        if !output.status.success() {
            return Err(complained("pg_dump", &output.stderr));
        }
        let is_new =
            |line: &&[u8]| line.starts_with(b"\\restrict") || line.starts_with(b"\\unrestrict");
        let lines = output.stdout.split_inclusive(|byte| *byte == b'\n');
        let mut lines: Vec<&[u8]> = lines.filter(|line| !is_new(line)).collect();
        let mut rest = lines.as_mut_slice();
        while let Some(begin) = rest.iter().position(|line| line.starts_with(b"COPY ")) {
            let rows = &mut rest[begin + 1..];
            let end = rows.iter().position(|line| line == b"\\.\n");
            let (rows, after) = rows.split_at_mut(end.unwrap_or(rows.len()));
            rows.sort_unstable();
            rest = after;
        }
        Ok(lines.concat())
    }

    fn run(&self, database: &str, sql: &str) -> Result<(), CommandError> {
        let mut child = self
            .client("psql", &self.cluster.settings(database))
            .args(["-X", "-q", "--set=ON_ERROR_STOP=1", "--file=-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| failed("psql", &error))?;
        let mut input = child.stdin.take().expect("standard input is piped");
        // When psql ends before it has read everything, what it says is the better answer.
        let _ = input.write_all(sql.as_bytes());
        drop(input);
        let output = child
            .wait_with_output()
            .map_err(|error| failed("psql", &error))?;
        if output.status.success() {
            return Ok(());
        }
        Err(complained("psql", &output.stderr))
    }

    fn client(&self, program: &str, settings: &Settings) -> Command {
        let mut command = Command::new(self.programs.folder().join(program));
        command
            .env_clear()
            .envs(settings.environment())
            .env("HOME", "/nonexistent")
            .env("LC_ALL", "C")
            .current_dir("/");
        command
    }
}

fn failed(program: &str, error: &std::io::Error) -> CommandError {
    CommandError::new(
        ExitCode::Failed,
        format!("{program} cannot be run for the demonstration"),
    )
    .caused_by(error)
}

fn complained(program: &str, stderr: &[u8]) -> CommandError {
    let stderr = String::from_utf8_lossy(stderr);
    CommandError::new(
        ExitCode::Failed,
        format!("{program} failed in the demonstration: {}", stderr.trim()),
    )
}
