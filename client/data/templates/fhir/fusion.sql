-- People, their results and their diagnoses, out of a FHIR R4 export.
WITH people AS (  -- record_number: the identifier of type MR, which the pictures carry too
  SELECT id AS patient, record_number, CASE WHEN gender IN ('female', 'male') THEN gender END AS sex,
    TRY_CAST(left(birth_date || '-07-01', 10) AS DATE) AS birth
  FROM patient
),
coding AS (SELECT system, code FROM condition UNION SELECT system, code FROM observation),
meaning AS (  -- the value sets that hold a code, by itself or by what it lies below
  SELECT v.name, c.system || ' ' || c.code AS code_id, max(v.depth) AS depth,
    any_value(v.display) AS display
  FROM (SELECT system, code, unnest(code_keys(system, code)) AS key FROM coding) c
  JOIN value_set v USING (key) GROUP BY v.name, c.system, c.code
),
observed AS (  -- a result once, however many codings it has
  SELECT o.patient, m.name, m.display, o.value,
    coalesce(o.code_of_unit, o.unit) AS unit,
    TRY_CAST(o.at_time AS TIMESTAMP) AS at_time
  FROM observation o JOIN meaning m ON m.code_id = o.system || ' ' || o.code
  WHERE o.value IS NOT NULL
  QUALIFY row_number() OVER (PARTITION BY o.id, m.name, o.value ORDER BY m.display) = 1
),
diagnosed AS (
  SELECT DISTINCT c.patient, m.name, CAST(TRY_CAST(c.at_time AS TIMESTAMP) AS DATE) AS day
  FROM condition c JOIN meaning m ON m.code_id = c.system || ' ' || c.code
),
