-- The ticket tracker. Times are the tracker's own to the minute.
CREATE TABLE site (now TEXT NOT NULL, secret TEXT NOT NULL);
CREATE TABLE users (
    id INTEGER PRIMARY KEY, username TEXT NOT NULL UNIQUE, name TEXT NOT NULL, password TEXT NOT NULL,
    title TEXT NOT NULL, timezone TEXT NOT NULL, notify TEXT NOT NULL DEFAULT 'mentions', away TEXT NOT NULL DEFAULT '',
    deputy_id INTEGER REFERENCES users
);
CREATE TABLE sessions (sid TEXT PRIMARY KEY, user_id INTEGER REFERENCES users);
CREATE TABLE projects (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, name TEXT NOT NULL, description TEXT NOT NULL,
    lead_id INTEGER NOT NULL REFERENCES users, guide TEXT NOT NULL
);
CREATE TABLE components (
    id INTEGER PRIMARY KEY, project_id INTEGER NOT NULL REFERENCES projects, name TEXT NOT NULL,
    owner_id INTEGER NOT NULL REFERENCES users
);
CREATE TABLE milestones (
    id INTEGER PRIMARY KEY, project_id INTEGER NOT NULL REFERENCES projects, name TEXT NOT NULL, due TEXT NOT NULL,
    closed INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE labels (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, colour TEXT NOT NULL);
CREATE TABLE tickets (
    id INTEGER PRIMARY KEY, project_id INTEGER NOT NULL REFERENCES projects, number INTEGER NOT NULL,
    title TEXT NOT NULL, body TEXT NOT NULL, status TEXT NOT NULL DEFAULT 'New', priority TEXT NOT NULL DEFAULT 'Normal',
    component_id INTEGER REFERENCES components, milestone_id INTEGER REFERENCES milestones,
    reporter_id INTEGER NOT NULL REFERENCES users, assignee_id INTEGER REFERENCES users,
    duplicate_of INTEGER REFERENCES tickets, created TEXT NOT NULL, updated TEXT NOT NULL, UNIQUE (project_id, number)
);
CREATE TABLE ticket_labels (
    ticket_id INTEGER NOT NULL REFERENCES tickets, label_id INTEGER NOT NULL REFERENCES labels,
    PRIMARY KEY (ticket_id, label_id)
);
CREATE TABLE blockers (
    ticket_id INTEGER NOT NULL REFERENCES tickets, blocker_id INTEGER NOT NULL REFERENCES tickets,
    PRIMARY KEY (ticket_id, blocker_id)
);
CREATE TABLE watchers (
    ticket_id INTEGER NOT NULL REFERENCES tickets, user_id INTEGER NOT NULL REFERENCES users,
    PRIMARY KEY (ticket_id, user_id)
);
CREATE TABLE comments (
    id INTEGER PRIMARY KEY, ticket_id INTEGER NOT NULL REFERENCES tickets, author_id INTEGER NOT NULL REFERENCES users,
    body TEXT NOT NULL, created TEXT NOT NULL
);
CREATE TABLE events (
    id INTEGER PRIMARY KEY, ticket_id INTEGER NOT NULL REFERENCES tickets, actor_id INTEGER NOT NULL REFERENCES users,
    text TEXT NOT NULL, created TEXT NOT NULL
);
CREATE INDEX comments_ticket ON comments (ticket_id);
CREATE INDEX events_ticket ON events (ticket_id);
