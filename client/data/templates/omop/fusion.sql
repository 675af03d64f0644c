-- People, their results and their diagnoses, out of an OMOP CDM 5.4.
WITH code AS (
  SELECT v.name, c.concept_id
  FROM value_set v JOIN concept c ON c.vocabulary_id = v.vocabulary AND c.concept_code = v.code
),
people AS (  -- person_source_value: the record number that the pictures carry too
  SELECT CAST(person_id AS VARCHAR) AS patient, person_source_value AS record_number,
    CASE gender_concept_id WHEN 8532 THEN 'female' WHEN 8507 THEN 'male' END AS sex,
    TRY(make_date(year_of_birth, coalesce(month_of_birth, 7), coalesce(day_of_birth, 1))) AS birth
  FROM person
),
observed AS (
  SELECT CAST(m.person_id AS VARCHAR) AS patient, code.name, m.value_as_number AS value,
    coalesce(u.concept_code, m.unit_source_value) AS unit,
    coalesce(instant(m.measurement_datetime), CAST(m.measurement_date AS TIMESTAMPTZ)) AS at_time
  FROM measurement m
  JOIN code ON code.concept_id = m.measurement_concept_id
  LEFT JOIN concept u ON u.concept_id = m.unit_concept_id AND u.vocabulary_id = 'UCUM'
  WHERE m.value_as_number IS NOT NULL
),
diagnosed AS (
  SELECT CAST(c.person_id AS VARCHAR) AS patient, code.name, c.condition_start_date AS day
  FROM condition_occurrence c
  JOIN concept_ancestor a ON a.descendant_concept_id = c.condition_concept_id
  JOIN code ON code.concept_id = a.ancestor_concept_id
  UNION
  SELECT CAST(c.person_id AS VARCHAR), v.name, c.condition_start_date
  FROM condition_occurrence c
  JOIN concept o ON o.concept_id = c.condition_source_concept_id
    AND o.vocabulary_id IN ('ICD10', 'ICD10CM', 'ICD10GM')
  JOIN value_set v ON v.vocabulary = 'ICD10' AND starts_with(o.concept_code, v.code)
),
