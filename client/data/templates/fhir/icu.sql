-- The first stay in intensive care of every adult, out of a FHIR R4 export.
WITH moment AS (  -- encounters with their times
  SELECT e.*, TRY_CAST(e.started AS TIMESTAMP) AS start, TRY_CAST(e.ended AS TIMESTAMP) AS stop
  FROM encounter e
),
coding AS (
  SELECT system, code FROM encounter_code UNION SELECT system, code FROM location_code
  UNION SELECT system, code FROM condition UNION SELECT system, code FROM observation
  UNION SELECT system, code FROM treatment
),
meaning AS (  -- the value sets that hold a code, by itself or by what it lies below
  SELECT v.name, c.system || ' ' || c.code AS code_id, max(v.depth) AS depth,
    any_value(v.display) AS display
  FROM (SELECT system, code, unnest(code_keys(system, code)) AS key FROM coding) c
  JOIN value_set v USING (key) GROUP BY v.name, c.system, c.code
),
icu_place AS (  -- intensive care told by where the patient lay
  SELECT e.encounter AS id, e.started, e.ended
  FROM encounter_location e JOIN location_code c USING (location)
  JOIN meaning n ON n.name = 'icu_encounter' AND n.code_id = c.system || ' ' || c.code
),
icu AS (
  SELECT DISTINCT m.* FROM moment m
  JOIN encounter_code c ON c.encounter = m.id
  JOIN meaning n ON n.name = 'icu_encounter' AND n.code_id = c.system || ' ' || c.code
  WHERE m.start IS NOT NULL
  UNION
  SELECT DISTINCT m.* REPLACE (coalesce(m.part_of, m.id) AS part_of,
    coalesce(TRY_CAST(p.started AS TIMESTAMP), m.start) AS start,
    coalesce(TRY_CAST(p.ended AS TIMESTAMP), m.stop) AS stop)
  FROM moment m JOIN icu_place p USING (id)
  WHERE coalesce(p.started, m.started) IS NOT NULL
),
first_stay AS (
  SELECT * FROM icu QUALIFY row_number() OVER (PARTITION BY patient ORDER BY start, stop, id) = 1
),
aged AS (
  SELECT s.*, CASE WHEN p.gender IN ('female', 'male') THEN p.gender END AS sex,
    TRY_CAST(p.deceased_at AS TIMESTAMP) AS death, length(p.deceased_at) > 10 AS death_timed,
    CAST(date_sub('year', TRY_CAST(left(p.birth_date || '-07-01', 10) AS DATE),
      CAST(s.start AS DATE)) AS DOUBLE) AS age
  FROM first_stay s JOIN patient p ON p.id = s.patient
),
stay AS (  -- the hospital's stay is the encounter that the intensive care is part of
  SELECT a.patient, a.sex, a.age, a.start, a.stop,
    CASE
      WHEN coalesce(h.stop, a.stop) IS NULL THEN NULL  -- still there
      WHEN coalesce(h.disposition, a.disposition) = 'exp' THEN 1.0
      WHEN CAST(a.death AS DATE) <= CAST(coalesce(h.stop, a.stop) AS DATE) THEN 1.0
      ELSE 0.0
    END AS died_in_hospital,
    CASE
      WHEN a.stop IS NULL THEN NULL
      WHEN a.disposition = 'exp' THEN 1.0
      WHEN a.death_timed AND a.death <= a.stop THEN 1.0
      WHEN NOT a.death_timed AND CAST(a.death AS DATE) <= CAST(a.stop AS DATE) THEN 1.0
      ELSE 0.0
    END AS died_in_icu
  FROM aged a LEFT JOIN moment h ON h.id = a.part_of
  WHERE a.age >= 18
),
observed AS (  -- a result once, however many codings it has
  SELECT s.patient, m.name, m.display, o.value,
    coalesce(o.code_of_unit, o.unit) AS unit,
    CASE WHEN length(o.at_time) > 10 THEN TRY_CAST(o.at_time AS TIMESTAMP)
      WHEN TRY_CAST(o.at_time AS DATE) = CAST(s.start AS DATE) THEN s.start
      ELSE TRY_CAST(o.at_time AS TIMESTAMP) END AS at_time
  FROM observation o
  JOIN meaning m ON m.code_id = o.system || ' ' || o.code
  JOIN stay s ON s.patient = o.patient
  WHERE o.value IS NOT NULL
  QUALIFY row_number() OVER (PARTITION BY o.id, m.name, o.value ORDER BY m.display) = 1
),
diagnosed AS (
  SELECT DISTINCT s.patient, m.name, TRY_CAST(c.at_time AS TIMESTAMP) AS at_time
  FROM condition c
  JOIN meaning m ON m.code_id = c.system || ' ' || c.code
  JOIN stay s ON s.patient = c.patient
),
treated AS (
  SELECT DISTINCT s.patient, m.name, TRY_CAST(t.at_time AS TIMESTAMP) AS at_time
  FROM treatment t
  JOIN meaning m ON m.code_id = t.system || ' ' || t.code
  JOIN stay s ON s.patient = t.patient
),
