-- People, their results and their diagnoses, out of an OMOP CDM 5.4.
WITH used AS (
  SELECT condition_concept_id AS concept_id FROM condition_occurrence
  UNION SELECT condition_source_concept_id FROM condition_occurrence
  UNION SELECT measurement_concept_id FROM measurement
),
meaning AS (  -- the value sets that hold a concept: by its code, or by concept_ancestor
  SELECT name, concept_id, max(depth) AS depth, any_value(concept_name) AS display
  FROM (
    SELECT v.name, c.concept_id, v.depth, c.concept_name
    FROM (SELECT concept_id, concept_name, unnest(code_keys(vocabulary_id, concept_code)) AS key
      FROM concept WHERE concept_id IN (FROM used)) c JOIN value_set v USING (key)
    UNION ALL
    SELECT v.name, c.concept_id, v.depth, c.concept_name
    FROM value_set v
    JOIN concept root ON root.vocabulary_id = v.vocabulary AND root.concept_code = v.code
    JOIN concept_ancestor a ON a.ancestor_concept_id = root.concept_id
    JOIN concept c ON c.concept_id = a.descendant_concept_id
  ) GROUP BY name, concept_id
),
people AS (  -- person_source_value: the record number that the pictures carry too
  SELECT CAST(person_id AS VARCHAR) AS patient, person_source_value AS record_number,
    CASE gender_concept_id WHEN 8532 THEN 'female' WHEN 8507 THEN 'male' END AS sex,
    make_date(year_of_birth, coalesce(month_of_birth, 7), coalesce(day_of_birth, 1)) AS birth
  FROM person
),
observed AS (
  SELECT CAST(m.person_id AS VARCHAR) AS patient, n.name, n.display, m.value_as_number AS value,
    coalesce(u.concept_code, m.unit_source_value) AS unit,
    coalesce(m.measurement_datetime, CAST(m.measurement_date AS TIMESTAMP)) AS at_time
  FROM measurement m
  JOIN meaning n ON n.concept_id = m.measurement_concept_id
  LEFT JOIN concept u ON u.concept_id = m.unit_concept_id AND u.vocabulary_id = 'UCUM'
  WHERE m.value_as_number IS NOT NULL
),
diagnosed AS (
  SELECT DISTINCT CAST(c.person_id AS VARCHAR) AS patient, n.name, c.condition_start_date AS day
  FROM condition_occurrence c
  JOIN meaning n ON n.concept_id IN (c.condition_concept_id, c.condition_source_concept_id)
),
