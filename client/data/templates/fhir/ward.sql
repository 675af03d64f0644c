-- Hospital stays, results, medicines and procedures of every patient, out of a FHIR R4 export.
WITH RECURSIVE
-- include fhir/segments.sql
-- include fhir/product.sql
coding AS (
  SELECT system, code, any_value(display) AS display, count(*) AS times FROM (
    SELECT system, code, display FROM encounter_code
    UNION ALL BY NAME SELECT system, code FROM location_code
    UNION ALL BY NAME SELECT system, code, display FROM condition
    UNION ALL BY NAME SELECT system, code FROM observation
    UNION ALL BY NAME SELECT system, code FROM treatment
    UNION ALL BY NAME SELECT system, code, display FROM product
  ) GROUP BY ALL
),
-- include fhir/meaning.sql
-- include fhir/intensive.sql
observed AS (  -- a result once, however many codings it has; known after its period, or after its
  -- day where it has no time
  SELECT o.patient, m.name, m.display, o.value, coalesce(o.code_of_unit, o.unit) AS unit,
    coalesce(instant(o.known), CAST(calendar_day(o.known) + 1 AS TIMESTAMPTZ)) AS at_time
  FROM (SELECT *, coalesce(until, at_time) AS known FROM observation) o
  JOIN meaning m ON m.code_id = o.system || ' ' || o.code
  WHERE o.value IS NOT NULL
  QUALIFY row_number() OVER (PARTITION BY o.id, m.name, o.value ORDER BY m.display) = 1
),
arrested AS (
  SELECT c.patient,
    coalesce(instant(c.at_time), CAST(earliest_day(c.at_time) AS TIMESTAMPTZ)) AS earliest,
    coalesce(instant(c.at_time), CAST(latest_day(c.at_time) + 1 AS TIMESTAMPTZ)) AS latest
  FROM (SELECT patient, system, code, at_time FROM condition
    UNION ALL SELECT patient, system, code, at_time FROM treatment) c
  JOIN meaning m ON m.code_id = c.system || ' ' || c.code
  WHERE m.name = 'cardiac_arrest'
),
event AS (  -- what was begun or done; of a day without a time, known after it
  SELECT e.kind, e.patient, e.event,
    coalesce(instant(e.at_time), CAST(calendar_day(e.at_time) + 1 AS TIMESTAMPTZ)) AS at_time,
    substr(m.name, length(e.kind) + 2) AS name
  FROM (
    SELECT DISTINCT 'medicine' AS kind, m.patient, m.id AS event, m.at_time,
      p.system || ' ' || p.code AS code_id
    FROM medication m LEFT JOIN product p ON p.request = m.id
    UNION
    SELECT 'procedure', patient, id, at_time, system || ' ' || code FROM treatment
  ) e LEFT JOIN meaning m ON m.code_id = e.code_id AND starts_with(m.name, e.kind || ':')
),
