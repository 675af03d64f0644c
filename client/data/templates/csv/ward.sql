-- Hospital stays, results, medicines and procedures of every patient, out of four tables:
-- `patients` (patient, sex: female or male, birth, death: a time, a day, a month or a year, or yes),
-- `stays` (patient, kind: inpatient or icu, started, ended, died: 1 where the patient left dead),
-- `results` (patient, taken, system, code, value, unit) and `events` (patient, happened, kind:
-- medicine, procedure or diagnosis, system, code).
-- Where only the day of some times is known, declare their column as text (formats: {events: {types:
-- {happened: text}}}): otherwise such a day is its midnight.
WITH RECURSIVE people AS (
  SELECT CAST(patient AS VARCHAR) AS patient,
    CASE WHEN lower(sex) IN ('female', 'male') THEN lower(sex) END AS sex,
    calendar_day(birth) AS birth, death IS NOT NULL AS dead, earliest_day(death) AS death_earliest,
    latest_day(death) AS death_latest, instant(death) AS death_at
  FROM patients
),
segment AS (
  SELECT row_number() OVER () AS visit, CAST(patient AS VARCHAR) AS patient,
    CAST(NULL AS BIGINT) AS part_of, lower(kind) AS kind, earliest_day(started) AS started_earliest,
    latest_day(started) AS started_latest, instant(started) AS started_at,
    calendar_day(ended) AS ended_on, instant(ended) AS ended_at,
    coalesce(lower(CAST(died AS VARCHAR)) IN ('1', '1.0', 'true'), false) AS left_dead,
    lower(CAST(died AS VARCHAR)) IN ('0', '0.0', 'false') AS left_alive, false AS hospice,
    CAST(NULL AS VARCHAR) AS admission_type, CAST(NULL AS VARCHAR) AS admission_source,
    CAST(NULL AS VARCHAR) AS discharged_to
  FROM stays
),
covered AS (  -- the last day of which the tables tell; later ones are bookings
  SELECT least(max(greatest(started_earliest, ended_on)), current_date) AS until FROM segment
),
coding AS (
  SELECT system, code, CAST(NULL AS VARCHAR) AS display, count(*) AS times
  FROM (SELECT system, CAST(code AS VARCHAR) AS code FROM results
    UNION ALL SELECT system, CAST(code AS VARCHAR) FROM events)
  GROUP BY ALL
),
-- include fhir/meaning.sql
-- include stays.sql
observed AS (  -- of a day without a time: known after it
  SELECT CAST(o.patient AS VARCHAR) AS patient, m.name, m.display, CAST(o.value AS DOUBLE) AS value,
    CAST(o.unit AS VARCHAR) AS unit,
    coalesce(instant(o.taken), CAST(calendar_day(o.taken) + 1 AS TIMESTAMPTZ)) AS at_time
  FROM results o JOIN meaning m ON m.code_id = o.system || ' ' || o.code
  WHERE o.value IS NOT NULL
),
happening AS (
  SELECT row_number() OVER () AS event, CAST(patient AS VARCHAR) AS patient, lower(kind) AS kind,
    happened, system || ' ' || code AS code_id
  FROM events
),
arrested AS (
  SELECT h.patient,
    coalesce(instant(h.happened), CAST(earliest_day(h.happened) AS TIMESTAMPTZ)) AS earliest,
    coalesce(instant(h.happened), CAST(latest_day(h.happened) + 1 AS TIMESTAMPTZ)) AS latest
  FROM happening h JOIN meaning m USING (code_id) WHERE m.name = 'cardiac_arrest'
),
event AS (
  SELECT h.kind, h.patient, h.event,
    coalesce(instant(h.happened), CAST(calendar_day(h.happened) + 1 AS TIMESTAMPTZ)) AS at_time,
    substr(m.name, length(h.kind) + 2) AS name
  FROM happening h LEFT JOIN meaning m ON m.code_id = h.code_id AND starts_with(m.name, h.kind || ':')
  WHERE h.kind IN ('medicine', 'procedure')
),
