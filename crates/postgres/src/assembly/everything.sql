-- Every kind of object that a dump can have, for comparing what goes in with what comes back.
-- THE_OWNER, THE_READER and "THE SPACE" stand for two roles and a tablespace that are the cluster's.
SET client_min_messages = error;
CREATE SCHEMA "Ünïcode ""Schema""" AUTHORIZATION THE_OWNER; COMMENT ON SCHEMA "Ünïcode ""Schema""" IS 'it''s odd';
COMMENT ON SCHEMA public IS 'the public one';
GRANT USAGE ON SCHEMA public TO THE_READER;
CREATE EXTENSION citext; CREATE EXTENSION hstore SCHEMA public; CREATE EXTENSION btree_gist; CREATE EXTENSION file_fdw;
CREATE TYPE mood AS ENUM ('sad', 'it''s', 'glad');
CREATE DOMAIN amount AS numeric(10, 2) DEFAULT 0 CHECK (VALUE >= 0);
CREATE TYPE pair AS (a int, b text);
CREATE TYPE span AS RANGE (subtype = float8, multirange_type_name = spans);
CREATE COLLATION german FROM "C";
CREATE FUNCTION twice(x int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT x * 2';
CREATE PROCEDURE quiet() LANGUAGE plpgsql AS $$ BEGIN NULL; END $$;
CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
CREATE FUNCTION pair_less(pair, pair) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT ($1).a < ($2).a';
CREATE OPERATOR <<< (LEFTARG = pair, RIGHTARG = pair, FUNCTION = pair_less);
CREATE CAST (pair AS text) WITH INOUT AS ASSIGNMENT;
CREATE TEXT SEARCH DICTIONARY plain (TEMPLATE = pg_catalog.simple);
CREATE TEXT SEARCH CONFIGURATION words (COPY = pg_catalog.simple);
CREATE OPERATOR FAMILY pairs USING btree;
CREATE TABLE customer (
    id int GENERATED ALWAYS AS IDENTITY (START 7) PRIMARY KEY,
    name text NOT NULL UNIQUE, mood mood DEFAULT 'sad', spent amount, double int GENERATED ALWAYS AS (id * 2) STORED,
    tags text[], extra jsonb, raw bytea, pairs pair[], email citext, attributes hstore, during span, kept xml, price money,
    CHECK (name <> 'nobody')
);
INSERT INTO customer (name, mood, spent, tags, extra, raw, pairs, email, attributes, during, kept, price) VALUES
  (E'tab\there\nnew line\\ back', 'glad', 5, '{a,"b,c",NULL}', '{"a": [1, "é"]}', '\x00ff5c2e', ARRAY[(1, 'x')::pair], 'A@b.c', 'a=>1', '[1,2]', '<a>é</a>', 5),
  (E'\\.', 'it''s', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL), ('', NULL, 1, '{}', 'null', '', '{}', '', '', 'empty', '', 0);
CREATE TABLE odd (f float8, d date, n numeric, t timestamptz, i interval);
INSERT INTO odd VALUES ('NaN', 'infinity', 'NaN', '-infinity', '1 mon'), ('-infinity', '4714-11-24 BC', '1e-20', 'epoch', '-1 s'), (0.1, NULL, NULL, NULL, NULL);
CREATE SEQUENCE "Odd Sequence" AS smallint INCREMENT -3 MINVALUE -300 START -5 CYCLE; SELECT nextval('"Odd Sequence"');
CREATE SEQUENCE untouched;
CREATE TABLE "Order" (id bigserial PRIMARY KEY, customer int REFERENCES customer ON DELETE CASCADE DEFERRABLE, total amount, at timestamptz, "select" int, "a""b" int);
INSERT INTO "Order" (customer, total, at) SELECT 7 + i % 3, i, '2026-01-01'::timestamptz + i * interval '1 hour' FROM generate_series(1, 500) i;
COMMENT ON TABLE "Order" IS E'what was bought\nand when; DROP TABLE x;'; COMMENT ON COLUMN "Order".total IS 'sum';
CREATE INDEX ON "Order" (at DESC) WHERE total > 5; CREATE INDEX ON "Order" USING gist (total);
ALTER TABLE "Order" CLUSTER ON "Order_pkey"; ALTER TABLE customer REPLICA IDENTITY FULL;
CREATE TABLE empty (); CREATE TABLE only_generated (a int GENERATED ALWAYS AS (1) STORED); INSERT INTO only_generated DEFAULT VALUES;
INSERT INTO empty DEFAULT VALUES; INSERT INTO empty DEFAULT VALUES;
CREATE TABLE parent (id int, note text); CREATE TABLE child (more int) INHERITS (parent); INSERT INTO parent VALUES (1, 'p'); INSERT INTO child VALUES (2, 'c', 3);
CREATE TABLE log (id int, day date, line text) PARTITION BY RANGE (day);
CREATE TABLE log_old PARTITION OF log FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') PARTITION BY LIST (id);
CREATE TABLE log_old_1 PARTITION OF log_old FOR VALUES IN (1); CREATE TABLE log_rest PARTITION OF log DEFAULT;
INSERT INTO log VALUES (1, '2025-05-05', 'old'), (2, '2026-05-05', 'new');
CREATE INDEX log_day ON log (day);
CREATE UNLOGGED TABLE fleeting (x int); INSERT INTO fleeting VALUES (1);
CREATE VIEW glad AS SELECT id, name FROM customer WHERE mood = 'glad'; 
CREATE VIEW circle_a AS SELECT 1 AS x; CREATE VIEW circle_b AS SELECT * FROM circle_a; 
CREATE MATERIALIZED VIEW sums AS SELECT customer, sum(total) FROM "Order" GROUP BY customer; CREATE UNIQUE INDEX ON sums (customer);
CREATE MATERIALIZED VIEW a_of_sums AS SELECT count(*) FROM sums; CREATE MATERIALIZED VIEW unfilled AS SELECT 1 AS one WITH NO DATA;
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.at := coalesce(NEW.at, now()); RETURN NEW; END $$;
CREATE TRIGGER note BEFORE INSERT ON "Order" FOR EACH ROW EXECUTE FUNCTION note();
CREATE RULE quiet AS ON DELETE TO odd DO INSTEAD NOTHING;
CREATE STATISTICS stats ON customer, total FROM "Order";
ALTER TABLE customer ENABLE ROW LEVEL SECURITY; ALTER TABLE customer FORCE ROW LEVEL SECURITY;
CREATE POLICY readers ON customer TO THE_READER USING (mood = 'glad');
CREATE TABLE meeting (room int, during tsrange, EXCLUDE USING gist (room WITH =, during WITH &&)); INSERT INTO meeting VALUES (1, '[2026-01-01, 2026-01-02)');
CREATE TABLE "Ünïcode ""Schema"""."Täble
with newline; SELECT 1/0; --" ("cöl
umn" int PRIMARY KEY); INSERT INTO "Ünïcode ""Schema"""."Täble
with newline; SELECT 1/0; --" VALUES (1);
ALTER TABLE "Ünïcode ""Schema"""."Täble
with newline; SELECT 1/0; --" OWNER TO THE_OWNER;
ALTER SEQUENCE untouched OWNER TO THE_OWNER; ALTER FUNCTION twice(int) OWNER TO THE_OWNER; ALTER TYPE mood OWNER TO THE_OWNER; ALTER VIEW glad OWNER TO THE_OWNER; ALTER OPERATOR <<< (pair, pair) OWNER TO THE_OWNER; ALTER AGGREGATE total(int) OWNER TO THE_OWNER;
GRANT SELECT ON customer TO THE_READER WITH GRANT OPTION; GRANT SELECT (id), UPDATE (total) ON "Order" TO THE_READER; GRANT EXECUTE ON FUNCTION twice(int) TO THE_READER; REVOKE EXECUTE ON FUNCTION twice(int) FROM public;
GRANT USAGE ON SEQUENCE untouched TO THE_READER;
ALTER DEFAULT PRIVILEGES FOR ROLE THE_OWNER IN SCHEMA public GRANT SELECT ON TABLES TO THE_READER;
CREATE FUNCTION on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN IF tg_tag = 'CREATE TABLE' AND current_setting('test.no_tables', true) = 'on' THEN RAISE 'no'; END IF; END $$;
CREATE EVENT TRIGGER watch ON ddl_command_start EXECUTE FUNCTION on_ddl(); COMMENT ON EVENT TRIGGER watch IS 'watches'; ALTER EVENT TRIGGER watch DISABLE;
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw; CREATE USER MAPPING FOR THE_READER SERVER files; CREATE FOREIGN TABLE outside (x text) SERVER files OPTIONS (filename '/dev/null');
CREATE PUBLICATION news FOR TABLE "Order" (id, total) WHERE (id > 5); CREATE PUBLICATION all_of FOR TABLES IN SCHEMA public;
CREATE SUBSCRIPTION far CONNECTION 'host=nowhere' PUBLICATION x WITH (connect = false, slot_name = NONE, enabled = false);
CREATE TRANSFORM FOR int LANGUAGE sql (TO SQL WITH FUNCTION int4recv(internal));
CREATE ACCESS METHOD other_heap TYPE TABLE HANDLER heap_tableam_handler; CREATE TABLE elsewhere (x int) USING other_heap; INSERT INTO elsewhere VALUES (1);
CREATE CONVERSION odd_conversion FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
SELECT lo_from_bytea(16000, '\x00ff'), lo_from_bytea(3000000000, decode(repeat('00ff5c', 30000), 'hex')), lo_create(16001);
COMMENT ON LARGE OBJECT 16000 IS 'large'; GRANT SELECT ON LARGE OBJECT 16000 TO THE_READER; ALTER LARGE OBJECT 16001 OWNER TO THE_OWNER;
CREATE TABLE hashed (m mood, x int) PARTITION BY HASH (m); CREATE TABLE hashed_0 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE hashed_1 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO hashed VALUES ('sad', 1), ('it''s', 2), ('glad', 3);
CREATE TABLE circle (id int PRIMARY KEY, next int REFERENCES circle); INSERT INTO circle VALUES (1, 2), (2, 1);
CREATE TABLE spaced (x int) TABLESPACE "THE SPACE";  INSERT INTO spaced VALUES (1);
CREATE TABLE plain_strings (x text); INSERT INTO plain_strings SELECT repeat(chr(1 + i % 127) || '\\.', 3000) FROM generate_series(1, 200) i;
