-- The first stay in intensive care of every adult, out of an OMOP CDM 5.4.
WITH RECURSIVE
-- include omop/segments.sql
used AS (
  SELECT condition_concept_id AS concept_id, count(*) AS times FROM condition_occurrence GROUP BY ALL
  UNION ALL SELECT condition_source_concept_id, count(*) FROM condition_occurrence GROUP BY ALL
  UNION ALL SELECT measurement_concept_id, count(*) FROM measurement GROUP BY ALL
  UNION ALL SELECT procedure_concept_id, count(*) FROM procedure_occurrence GROUP BY ALL
),
-- include omop/meaning.sql
-- include omop/intensive.sql
-- include icu_stays.sql
observed AS (  -- a measurement without a time of the day of admission counts as made then
  SELECT s.patient, n.name, n.display, m.value_as_number AS value,
    coalesce(u.concept_code, m.unit_source_value) AS unit,
    coalesce(instant(m.measurement_datetime),
      CASE WHEN m.measurement_date = s.day THEN s.start END) AS at_time
  FROM measurement m
  JOIN meaning n ON n.code_id = m.measurement_concept_id
  JOIN stay s ON s.person = m.person_id
  LEFT JOIN concept u ON u.concept_id = m.unit_concept_id AND u.vocabulary_id = 'UCUM'
  WHERE m.value_as_number IS NOT NULL
    AND m.measurement_date BETWEEN s.day AND s.day + 2
),
diagnosed AS (  -- by the standard concept, or by the ICD code it was entered with
  SELECT DISTINCT s.patient, meaning.name, coalesce(instant(c.condition_start_datetime),
    CAST(c.condition_start_date AS TIMESTAMPTZ)) AS at_time
  FROM condition_occurrence c
  JOIN meaning ON meaning.code_id IN (c.condition_concept_id, c.condition_source_concept_id)
  JOIN stay s ON s.person = c.person_id
),
treated AS (
  SELECT DISTINCT s.patient, meaning.name,
    coalesce(instant(p.procedure_datetime), CAST(p.procedure_date AS TIMESTAMPTZ)) AS at_time
  FROM procedure_occurrence p
  JOIN meaning ON meaning.code_id = p.procedure_concept_id
  JOIN stay s ON s.person = p.person_id
),
