-- The read model: derived from the streams, deleted without loss. Times are seconds since 1970.
-- A task is one row. What few tasks have (errors, second runs, dependencies) stands beside it.
-- Columns for what SQL asks about; all else is one msgpack value, for each column costs every task.
CREATE TABLE tasks (
  ref INTEGER PRIMARY KEY,          -- ledger sequence × 1024 + index
  id TEXT,                          -- NULL = made from ref
  type TEXT NOT NULL,
  status INTEGER NOT NULL,          -- index in rows.STATUSES
  submitted BLOB NOT NULL,          -- rows.Submitted
  row BLOB NOT NULL                 -- rows.Row
);
CREATE INDEX tasks_by_id ON tasks(id) WHERE id IS NOT NULL;
-- Completed tasks, nearly all, are found by ref: the newest ones come first.
CREATE INDEX tasks_by_status ON tasks(status, ref) WHERE status <> 2;

CREATE TABLE attempts (
  ref INTEGER NOT NULL,
  run INTEGER NOT NULL,
  region TEXT NOT NULL,
  worker TEXT,
  started REAL,
  ended REAL,
  status INTEGER,
  type TEXT,
  message TEXT,
  traceback TEXT,
  sequence INTEGER,
  cause TEXT,                       -- the region's verdict
  due REAL,
  PRIMARY KEY (ref, run)
) WITHOUT ROWID;

CREATE TABLE dependencies (
  ref INTEGER NOT NULL,
  place INTEGER NOT NULL,
  needs INTEGER NOT NULL,
  PRIMARY KEY (ref, place)
) WITHOUT ROWID;
CREATE INDEX dependencies_by_needs ON dependencies(needs);

CREATE TABLE rates (
  bucket INTEGER NOT NULL,          -- time ÷ 10 s
  region TEXT NOT NULL,             -- '' = the master
  admitted INTEGER NOT NULL,
  placed INTEGER NOT NULL,
  completed INTEGER NOT NULL,
  failed INTEGER NOT NULL,
  cancelled INTEGER NOT NULL,
  PRIMARY KEY (bucket, region)
) WITHOUT ROWID;

CREATE TABLE counts (stage TEXT PRIMARY KEY, tasks INTEGER NOT NULL);
CREATE TABLE positions (stream TEXT PRIMARY KEY, created TEXT NOT NULL, seq INTEGER NOT NULL);
