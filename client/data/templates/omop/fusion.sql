-- People, their results and their diagnoses, out of an OMOP CDM 5.4.
WITH used AS (
  SELECT condition_concept_id AS concept_id, count(*) AS times FROM condition_occurrence GROUP BY ALL
  UNION ALL SELECT condition_source_concept_id, count(*) FROM condition_occurrence GROUP BY ALL
  UNION ALL SELECT measurement_concept_id, count(*) FROM measurement GROUP BY ALL
),
-- include omop/meaning.sql
numbered AS (  -- the record number that the pictures carry too
  SELECT CAST(person_id AS VARCHAR) AS patient, person_source_value AS record_number FROM person
),
people AS (
  SELECT CAST(person_id AS VARCHAR) AS patient,
    CASE gender_concept_id WHEN 8532 THEN 'female' WHEN 8507 THEN 'male' END AS sex,
    TRY(make_date(year_of_birth, coalesce(month_of_birth, 7), coalesce(day_of_birth, 1))) AS birth
  FROM person
),
observed AS (
  SELECT CAST(m.person_id AS VARCHAR) AS patient, n.name, n.display, m.value_as_number AS value,
    coalesce(u.concept_code, m.unit_source_value) AS unit,
    coalesce(instant(m.measurement_datetime), CAST(m.measurement_date AS TIMESTAMPTZ)) AS at_time
  FROM measurement m
  JOIN meaning n ON n.code_id = m.measurement_concept_id
  LEFT JOIN concept u ON u.concept_id = m.unit_concept_id AND u.vocabulary_id = 'UCUM'
  WHERE m.value_as_number IS NOT NULL
),
diagnosed AS (
  SELECT DISTINCT CAST(c.person_id AS VARCHAR) AS patient, n.name, c.condition_start_date AS day
  FROM condition_occurrence c
  JOIN meaning n ON n.code_id IN (c.condition_concept_id, c.condition_source_concept_id)
),
