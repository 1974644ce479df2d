-- The name that an owner brings to an app. It leads to one app at a time, whoever owns the others.
ALTER TABLE apps ADD COLUMN domain TEXT;
CREATE UNIQUE INDEX app_domains ON apps (domain) WHERE domain IS NOT NULL AND actual <> 'stopped';
