-- Hospital stays and what happened in them, out of a FHIR R4 export.
WITH RECURSIVE
-- include fhir/segments.sql
segment AS (FROM hospital_segment),
-- include stays.sql
about_visit AS (  -- Coverage is not part of a usual export: map your own
  SELECT id AS visit, CAST(NULL AS VARCHAR) AS payer, CAST(NULL AS VARCHAR) AS specialty_name
  FROM encounter
),
-- include fhir/product.sql
coding AS (
  SELECT system, code, any_value(display) AS display, count(*) AS times FROM (
    SELECT system, code, display FROM condition UNION ALL BY NAME SELECT system, code FROM observation
    UNION ALL BY NAME SELECT system, code FROM treatment
    UNION ALL BY NAME SELECT system, code, display FROM product
  ) GROUP BY ALL
),
-- include fhir/meaning.sql
-- include vital.sql
planned_visit AS (  -- with a procedure that is planned by its nature
  SELECT DISTINCT t.encounter AS visit FROM treatment t
  JOIN meaning m ON m.name = 'planned_readmission' AND m.code_id = t.system || ' ' || t.code
),
listed AS (  -- a condition names its encounter, or an encounter lists it
  SELECT id AS entry, encounter AS visit, NULL AS rank FROM condition WHERE encounter IS NOT NULL
  UNION ALL
  SELECT condition, encounter, rank FROM encounter_diagnosis WHERE condition IS NOT NULL
),
diagnosis AS (  -- one row a coding
  SELECT l.visit, c.id AS entry, c.system || ' ' || c.code AS code_id, c.code,
    coalesce(min(l.rank), min(c.rank)) AS rank, min(c.system || c.code) AS place
  FROM listed l JOIN condition c ON c.id = l.entry
  GROUP BY l.visit, c.id, c.system, c.code
),
treated AS (SELECT DISTINCT encounter AS visit, id FROM treatment WHERE encounter IS NOT NULL),
tested AS (  -- one row a coding
  SELECT o.encounter AS visit, o.id AS entry, m.name, m.display, o.value,
    coalesce(o.code_of_unit, o.unit) AS unit
  FROM observation o LEFT JOIN meaning m ON m.code_id = o.system || ' ' || o.code
  WHERE o.encounter IS NOT NULL AND coalesce(o.laboratory, o.id NOT IN (SELECT x.id
    FROM observation x JOIN meaning n ON n.code_id = x.system || ' ' || x.code
    JOIN vital USING (name)))
),
drug AS (
  SELECT m.patient, m.encounter AS visit, calendar_day(m.at_time) AS at_time,
    m.id AS prescription, any_value(coalesce(p.text, p.display, p.code)) AS product,
    concat_ws(' / ', string_agg(DISTINCT lower(coalesce(p.display, p.text)), ' / '),
      string_agg(DISTINCT substr(n.name, 6), ' / ')) AS ingredients
  FROM (SELECT DISTINCT id, patient, encounter, at_time FROM medication) m
  LEFT JOIN product p ON p.request = m.id
  LEFT JOIN meaning n ON n.code_id = p.system || ' ' || p.code AND starts_with(n.name, 'drug:')
  GROUP BY m.patient, m.encounter, m.at_time, m.id
),
