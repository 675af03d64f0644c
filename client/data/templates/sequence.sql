-- Sequences: what was begun or done before a landmark. From `landmark` (landmark, patient, at),
-- `event` (kind, patient, event, at_time, name: a group of it, a row each; NULL where a coding is in
-- none) and `recalled` (kind, hours) to `recent`, how often and when last each group occurs in the hours before, and
-- `sequenced`: of each landmark and kind the groups, the latest first, and the number of events.
grouped_event AS (  -- other: in no group by any of its codings
  SELECT * REPLACE (coalesce(name, 'other') AS name) FROM event
  QUALIFY name IS NOT NULL OR count(name) OVER (PARTITION BY kind, event) = 0
),
heard AS (
  SELECT l.landmark, e.kind, e.event, e.name, e.at_time
  FROM landmark l JOIN grouped_event e ON e.patient = l.patient JOIN recalled r USING (kind)
  WHERE e.at_time <= l.at AND e.at_time > l.at - r.hours * INTERVAL 1 HOUR
),
recent AS (
  SELECT landmark, kind, name, count(DISTINCT event) AS times, max(at_time) AS last
  FROM heard GROUP BY landmark, kind, name
),
sequenced AS (
  SELECT r.landmark, r.kind, list(r.name ORDER BY r.last DESC, r.name) AS groups,
    any_value(h.events) AS events
  FROM recent r
  JOIN (SELECT landmark, kind, count(DISTINCT event) AS events FROM heard GROUP BY ALL) h
    USING (landmark, kind)
  GROUP BY r.landmark, r.kind
),
