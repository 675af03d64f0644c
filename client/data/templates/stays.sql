-- Stays: what the segments (encounters, visits) of one patient make together. From `segment`,
-- `people` and `covered` to `stays`, and `member`, which says to what stay a visit belongs.
rule (gap, deepest) AS (  -- a segment that begins within the gap after another goes on with it
  VALUES (INTERVAL 1 HOUR, 16)
),
climb AS (  -- from each visit up by part_of, one step a row
  SELECT patient, visit, visit AS root, 0 AS steps FROM segment WHERE kind <> 'icu'
  UNION ALL
  SELECT c.patient, c.visit, s.part_of, c.steps + 1
  FROM climb c JOIN segment s ON s.visit = c.root AND s.patient = c.patient, rule
  WHERE s.kind <> 'icu' AND s.part_of IS NOT NULL AND c.steps < rule.deepest
),
rooted AS (SELECT visit, arg_max(root, steps) AS root FROM climb GROUP BY visit),
admission AS (  -- all that is part of one root; the root's end is the end, though a part lacks one
  SELECT s.patient, r.root, CASE WHEN bool_or(s.kind = 'inpatient') THEN 'inpatient'
      WHEN bool_or(s.kind = 'emergency') THEN 'emergency' ELSE 'outpatient' END AS kind,
    min(s.started_earliest) AS started_earliest, min(s.started_latest) AS started_latest,
    min(struct_pack(day := s.started_earliest, at := s.started_at)).at AS started_at,
    bool_or(s.visit = r.root AND s.ended_on IS NOT NULL) OR bool_and(s.ended_on IS NOT NULL)
      AS closed,
    CASE WHEN closed THEN max(s.ended_on) END AS ended_on,
    CASE WHEN closed THEN (max(struct_pack(day := s.ended_on, at := s.ended_at))
      FILTER (s.ended_on IS NOT NULL)).at END AS ended_at,
    bool_or(s.left_dead) AS left_dead, bool_or(s.left_alive) AS left_alive,
    bool_or(s.hospice) AS hospice,
    arg_max(s.discharged_to, struct_pack(own := s.visit = r.root, day := s.ended_on))
      AS discharged_to,
    arg_min(s.admission_type, struct_pack(day := s.started_earliest, part := s.visit <> r.root))
      AS admission_type,
    arg_min_null(s.admission_source, struct_pack(day := s.started_earliest, at := s.started_at,
      part := s.visit <> r.root)) AS admission_source  -- not of a later part: that is a move
  FROM segment s JOIN rooted r USING (visit) WHERE s.kind <> 'icu' GROUP BY s.patient, r.root
),
piece AS (
  SELECT * EXCLUDE (closed) FROM admission
  UNION ALL BY NAME
  SELECT * EXCLUDE (visit, part_of), visit AS root FROM segment WHERE kind = 'icu'
),
placed AS (  -- in order; goes_on: begins before an earlier one is over, or soon after, or by transfer
  SELECT p.*, coalesce(p.started_earliest = p.started_latest, false) AS dated,
    p.kind IN ('inpatient', 'icu') AND dated AND (
      coalesce(p.started_earliest < max(p.ended_on) OVER earlier, false)
      OR coalesce(p.started_at <= max(p.ended_at) OVER earlier + any_value(rule.gap) OVER (), false)
      OR coalesce(p.started_earliest = max(p.ended_on) OVER earlier
        AND (p.admission_source = 'hospital'
          OR last_value(p.discharged_to) OVER earlier = 'short_term_hospital'), false)) AS goes_on
  FROM piece p, rule
  WINDOW earlier AS (PARTITION BY p.patient, p.kind, p.started_earliest = p.started_latest
    ORDER BY p.started_earliest, p.started_at, p.root
    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
),
numbered AS (
  SELECT *, count(*) FILTER (NOT goes_on) OVER (PARTITION BY patient, kind, dated
    ORDER BY started_earliest, started_at, root ROWS UNBOUNDED PRECEDING) AS number
  FROM placed
),
merged AS (
  SELECT patient, kind, dated, number,
    arg_min(root, struct_pack(day := started_earliest, at := started_at, root := root)) AS stay,
    min(started_earliest) AS started_earliest, min(started_latest) AS started_latest,
    min(struct_pack(day := started_earliest, at := started_at)).at AS started_at,
    CASE WHEN bool_and(ended_on IS NOT NULL) THEN max(ended_on) END AS ended_on,
    CASE WHEN bool_and(ended_on IS NOT NULL)
      THEN max(struct_pack(day := ended_on, at := ended_at)).at END AS ended_at,
    bool_or(left_dead) AS left_dead,
    coalesce(arg_max(left_alive, struct_pack(day := ended_on, at := ended_at)), false)
      AS left_alive,
    coalesce(bool_or(hospice), false) AS hospice,
    arg_max(discharged_to, struct_pack(day := ended_on, at := ended_at)) AS discharged_to,
    arg_min(admission_type, struct_pack(day := started_earliest, at := started_at))
      AS admission_type,
    arg_min_null(admission_source, struct_pack(day := started_earliest, at := started_at))
      AS admission_source
  FROM numbered GROUP BY patient, kind, dated, number
),
followed AS (  -- came_back: in hospital again, after this stay; next_on: the next such stay's day
  SELECT m.*, lead(started_earliest) OVER (PARTITION BY patient, kind, dated
    ORDER BY started_earliest, started_at, stay) AS next_on, coalesce(max(started_earliest) FILTER (kind = 'inpatient')
    OVER (PARTITION BY patient) > coalesce(ended_on, started_latest), false) AS came_back
  FROM merged m
),
ended AS (  -- died in the stay, by whichever source knows: NULL where none tells
  SELECT f.*, CASE
      WHEN f.left_dead THEN true
      WHEN NOT coalesce(p.dead, false) THEN CASE WHEN f.ended_on IS NOT NULL THEN false END
      WHEN p.death_latest < f.started_earliest THEN NULL
      WHEN f.ended_on IS NULL AND f.came_back THEN false
      WHEN f.ended_on IS NULL THEN CASE WHEN p.death_latest >= f.started_latest THEN true END
      WHEN p.death_latest <= f.ended_on THEN coalesce(f.next_on > p.death_latest, true)
      WHEN p.death_earliest > f.ended_on OR f.came_back OR f.left_alive THEN false
    END AS died
  FROM followed f LEFT JOIN people p USING (patient)
),
stays AS (  -- day_case: over on the day it began, alive, and nobody said that it was urgent
  SELECT *, coalesce(started_earliest = ended_on AND NOT coalesce(died, false)
    AND coalesce(admission_type NOT IN ('emergency', 'urgent', 'newborn'), true), false) AS day_case
  FROM ended
),
member AS (
  SELECT r.visit, m.stay
  FROM rooted r JOIN numbered n ON n.root = r.root AND n.kind <> 'icu'
  JOIN merged m USING (patient, kind, dated, number)
),
