-- The backend's whole state. Written in what SQLite and PostgreSQL share: TEXT and BIGINT, identifiers as
-- lower-case UUIDs, digests as 64 hexadecimal digits, instants in microseconds since 1970, truth as 0 and 1.

CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    is_operator BIGINT NOT NULL CHECK (is_operator IN (0, 1)),
    created_at BIGINT NOT NULL,
    disabled_at BIGINT
);

-- Of a token only the SHA-256 is kept.
CREATE TABLE tokens (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id),
    name TEXT NOT NULL,
    sha256 TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    expires_at BIGINT
);
CREATE INDEX tokens_of_user ON tokens (user_id, created_at, id);

-- `turn` is raised by every transaction that counts against a quota, so that two of them never count at once.
CREATE TABLE projects (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    created_by TEXT NOT NULL REFERENCES users (id),
    created_at BIGINT NOT NULL,
    max_apps BIGINT NOT NULL,
    max_memory_mb BIGINT NOT NULL,
    max_upload_bytes BIGINT NOT NULL,
    turn BIGINT NOT NULL DEFAULT 0,
    UNIQUE (created_by, name)
);

CREATE TABLE members (
    project_id TEXT NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    user_id TEXT NOT NULL REFERENCES users (id),
    role TEXT NOT NULL CHECK (role IN ('owner', 'member')),
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project_id, user_id)
);
CREATE INDEX members_of_user ON members (user_id, project_id);

CREATE TABLE plans (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    enclave_mb BIGINT NOT NULL CHECK (enclave_mb > 0),
    cores BIGINT NOT NULL CHECK (cores > 0),
    price TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    retired_at BIGINT
);
CREATE UNIQUE INDEX plan_names ON plans (name) WHERE retired_at IS NULL;

CREATE TABLE uploads (
    project_id TEXT NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    sha256 TEXT NOT NULL,
    size BIGINT NOT NULL CHECK (size > 0),
    received BIGINT NOT NULL CHECK (received >= 0 AND received <= size),
    created_by TEXT NOT NULL REFERENCES users (id),
    created_at BIGINT NOT NULL,
    completed_at BIGINT,
    PRIMARY KEY (project_id, sha256)
);

-- `enclave_mb` and `cores` are copies: what was promised stays, whatever becomes of the plan.
CREATE TABLE apps (
    id TEXT NOT NULL PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (id),
    name TEXT NOT NULL,
    plan_id TEXT NOT NULL REFERENCES plans (id),
    enclave_mb BIGINT NOT NULL,
    cores BIGINT NOT NULL,
    tls TEXT NOT NULL CHECK (tls IN ('zero-trust', 'owner-certificate', 'untrusted-ssl')),
    wanted TEXT NOT NULL CHECK (wanted IN ('running', 'stopped')),
    actual TEXT NOT NULL CHECK (actual IN ('spawning', 'initializing', 'running', 'on-error', 'stopped')),
    message TEXT NOT NULL,
    created_by TEXT NOT NULL REFERENCES users (id),
    created_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    stopped_at BIGINT,
    failures BIGINT NOT NULL DEFAULT 0,
    retry_at BIGINT,
    node TEXT,
    address TEXT,
    fingerprint TEXT
);
CREATE UNIQUE INDEX app_names ON apps (project_id, name) WHERE wanted = 'running';
CREATE INDEX apps_of_project ON apps (project_id, created_at, id);
CREATE INDEX apps_to_care_for ON apps (created_at, id) WHERE actual <> 'stopped';

-- What an app was made of, by digest: rows of `uploads` of the same project.
CREATE TABLE app_parts (
    app_id TEXT NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    PRIMARY KEY (app_id, name)
);
CREATE INDEX app_parts_by_digest ON app_parts (sha256);

-- What an app occupies. A row is freed once and never again; a port is held by one app at a time.
CREATE TABLE placements (
    app_id TEXT NOT NULL PRIMARY KEY REFERENCES apps (id),
    machine TEXT NOT NULL,
    enclave_mb BIGINT NOT NULL,
    cores BIGINT NOT NULL,
    port BIGINT NOT NULL,
    placed_at BIGINT NOT NULL,
    freed_at BIGINT
);
CREATE UNIQUE INDEX ports_held ON placements (machine, port) WHERE freed_at IS NULL;

-- Answers already given, encrypted under a key that only the bearer of the token can make.
CREATE TABLE answers (
    token_id TEXT NOT NULL REFERENCES tokens (id) ON DELETE CASCADE,
    key_sha256 TEXT NOT NULL,
    request_sha256 TEXT NOT NULL,
    answer TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (token_id, key_sha256)
);

-- Who did what. No references: it outlives what it speaks of.
CREATE TABLE audit (
    id TEXT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    user_id TEXT,
    project_id TEXT,
    action TEXT NOT NULL,
    object TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX audit_in_order ON audit (at, id);
CREATE INDEX audit_of_project ON audit (project_id, at, id);
