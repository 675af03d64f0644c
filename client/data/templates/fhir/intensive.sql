-- Stays in hospital and in intensive care. From `moment`, `hospital_segment` and `meaning`.
intensive AS (  -- encounters of that kind, and spans in a place of that kind
  SELECT c.encounter AS id, CAST(NULL AS VARCHAR) AS started, CAST(NULL AS VARCHAR) AS ended
  FROM encounter_code c
  JOIN meaning n ON n.name = 'icu_encounter' AND n.code_id = c.system || ' ' || c.code
  UNION
  SELECT e.encounter, e.started, e.ended
  FROM encounter_location e JOIN location_code c USING (location)
  JOIN meaning n ON n.name = 'icu_encounter' AND n.code_id = c.system || ' ' || c.code
),
icu AS (
  SELECT DISTINCT m.* REPLACE (coalesce(i.started, m.started) AS started,
    CASE WHEN i.started IS NULL THEN m.ended ELSE coalesce(i.ended, m.ended) END AS ended)
  FROM moment m JOIN intensive i USING (id) WHERE coalesce(i.started, m.started) IS NOT NULL
),
segment AS (
  FROM hospital_segment
  UNION ALL BY NAME
  SELECT id AS visit, patient, 'icu' AS kind, earliest_day(started) AS started_earliest,
    latest_day(started) AS started_latest, instant(started) AS started_at,
    calendar_day(ended) AS ended_on, instant(ended) AS ended_at,
    coalesce(disposition = 'exp', false) AS left_dead
  FROM icu
),
-- include stays.sql
