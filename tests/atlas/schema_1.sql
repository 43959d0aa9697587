CREATE TABLE IF NOT EXISTS paper (
  id TEXT PRIMARY KEY,
  title TEXT NOT NULL,
  title_key TEXT NOT NULL,
  year INTEGER,
  venue TEXT,
  abstract TEXT,
  summary TEXT,
  url TEXT,
  citations INTEGER,
  source TEXT NOT NULL DEFAULT '',
  added_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS paper_title_key ON paper (title_key);

-- one work has many numbers: preprint and journal version, and one in each database
CREATE TABLE IF NOT EXISTS identifier (
  scheme TEXT NOT NULL,
  value TEXT NOT NULL,
  paper TEXT NOT NULL REFERENCES paper (id) ON DELETE CASCADE,
  PRIMARY KEY (scheme, value)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS identifier_paper ON identifier (paper);

CREATE TABLE IF NOT EXISTS alias (
  id TEXT PRIMARY KEY,
  paper TEXT NOT NULL REFERENCES paper (id) ON DELETE CASCADE
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS other_title (
  paper TEXT NOT NULL REFERENCES paper (id) ON DELETE CASCADE,
  title_key TEXT NOT NULL,
  title TEXT NOT NULL,
  PRIMARY KEY (paper, title_key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS other_title_key ON other_title (title_key);

CREATE TABLE IF NOT EXISTS author (
  paper TEXT NOT NULL REFERENCES paper (id) ON DELETE CASCADE,
  position INTEGER NOT NULL,
  name TEXT NOT NULL,
  PRIMARY KEY (paper, position)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS cites (
  src TEXT NOT NULL REFERENCES paper (id) ON DELETE CASCADE,
  dst TEXT NOT NULL REFERENCES paper (id) ON DELETE CASCADE,
  influential INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (src, dst),
  CHECK (src <> dst)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS cites_dst ON cites (dst);

CREATE VIRTUAL TABLE IF NOT EXISTS paper_fts USING fts5 (
  id UNINDEXED, title, authors, abstract, summary,
  tokenize = "unicode61 remove_diacritics 2"
);

CREATE TABLE IF NOT EXISTS comment (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  uid TEXT NOT NULL UNIQUE,
  paper TEXT NOT NULL REFERENCES paper (id) ON DELETE CASCADE,
  parent INTEGER REFERENCES comment (id),
  author TEXT NOT NULL,
  body TEXT NOT NULL,
  version INTEGER NOT NULL DEFAULT 1,
  created_at REAL NOT NULL,
  edited_at REAL,
  deleted_at REAL
);
CREATE INDEX IF NOT EXISTS comment_paper ON comment (paper);

-- what an edit or a deletion replaced: two windows cannot destroy each other's words
CREATE TABLE IF NOT EXISTS comment_history (
  comment INTEGER NOT NULL REFERENCES comment (id) ON DELETE CASCADE,
  version INTEGER NOT NULL,
  body TEXT NOT NULL,
  replaced_at REAL NOT NULL,
  PRIMARY KEY (comment, version)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS reading (
  paper TEXT PRIMARY KEY REFERENCES paper (id) ON DELETE CASCADE,
  added_at REAL NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS layout (
  focus TEXT NOT NULL REFERENCES paper (id) ON DELETE CASCADE,
  node TEXT NOT NULL REFERENCES paper (id) ON DELETE CASCADE,
  x REAL NOT NULL,
  y REAL NOT NULL,
  moved INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (focus, node)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS job (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  status TEXT NOT NULL,
  folder TEXT NOT NULL,
  pid INTEGER,
  born TEXT,
  message TEXT NOT NULL DEFAULT '',
  started_at REAL NOT NULL,
  finished_at REAL
);
CREATE INDEX IF NOT EXISTS job_name ON job (kind, name, started_at);

-- pages an importer has fetched, and how far it has come
CREATE TABLE IF NOT EXISTS fetched (
  url TEXT PRIMARY KEY,
  body TEXT NOT NULL,
  fetched_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS setting (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;
