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
  added_at REAL NOT NULL,
  -- the row of the full-text index: a number that no VACUUM changes
  number INTEGER
);
CREATE INDEX IF NOT EXISTS paper_title_key ON paper (title_key);
CREATE UNIQUE INDEX IF NOT EXISTS paper_number ON paper (number);

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
  -- where it is known from, e.g. the citing work's own list of references
  source TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (src, dst),
  CHECK (src <> dst)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS cites_dst ON cites (dst);

CREATE VIRTUAL TABLE IF NOT EXISTS paper_index USING fts5 (
  title, authors, abstract, summary, venue, notes,
  tokenize = "unicode61 remove_diacritics 2"
);

-- what a file said of a paper, as it said it: nothing is lost between import and export
CREATE TABLE IF NOT EXISTS entry (
  paper TEXT NOT NULL REFERENCES paper (id) ON DELETE CASCADE,
  format TEXT NOT NULL,
  key TEXT NOT NULL DEFAULT '',
  kind TEXT NOT NULL DEFAULT '',
  fields TEXT NOT NULL,
  PRIMARY KEY (paper, format)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS entry_key ON entry (key, format);

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
  deleted_at REAL,
  -- the page of the paper's PDF that it is about
  page INTEGER
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
  added_at REAL NOT NULL,
  status TEXT NOT NULL DEFAULT 'to-read'
) WITHOUT ROWID;

-- the reader's own words on a paper; what an edit replaced stays
CREATE TABLE IF NOT EXISTS note (
  paper TEXT PRIMARY KEY REFERENCES paper (id) ON DELETE CASCADE,
  body TEXT NOT NULL,
  version INTEGER NOT NULL DEFAULT 1,
  edited_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS note_history (
  paper TEXT NOT NULL REFERENCES paper (id) ON DELETE CASCADE,
  version INTEGER NOT NULL,
  body TEXT NOT NULL,
  replaced_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS note_history_paper ON note_history (paper);

-- labels of papers: kind is tag or collection
CREATE TABLE IF NOT EXISTS label (
  kind TEXT NOT NULL,
  name TEXT NOT NULL COLLATE NOCASE,
  paper TEXT NOT NULL REFERENCES paper (id) ON DELETE CASCADE,
  added_at REAL NOT NULL,
  PRIMARY KEY (kind, name, paper)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS label_paper ON label (paper);

-- files of the reader's own, named by their SHA-256, and links to files elsewhere
CREATE TABLE IF NOT EXISTS document (
  paper TEXT NOT NULL REFERENCES paper (id) ON DELETE CASCADE,
  address TEXT NOT NULL,
  name TEXT NOT NULL,
  size INTEGER,
  added_at REAL NOT NULL,
  PRIMARY KEY (paper, address)
) WITHOUT ROWID;

-- entries to be looked at before they are imported, then what an import did
CREATE TABLE IF NOT EXISTS draft (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  format TEXT NOT NULL,
  created_at REAL NOT NULL,
  applied_at REAL,
  undone_at REAL,
  job TEXT,
  broken TEXT NOT NULL DEFAULT '[]'
);
CREATE TABLE IF NOT EXISTS draft_entry (
  draft TEXT NOT NULL REFERENCES draft (id) ON DELETE CASCADE,
  position INTEGER NOT NULL,
  record TEXT NOT NULL,
  action TEXT NOT NULL,
  target TEXT,
  why TEXT NOT NULL DEFAULT '',
  doubtful INTEGER NOT NULL DEFAULT 0,
  paper TEXT,
  before TEXT,
  after TEXT,
  PRIMARY KEY (draft, position)
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
