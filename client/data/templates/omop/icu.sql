-- The first stay in intensive care of every adult, out of an OMOP CDM 5.4.
WITH RECURSIVE
-- include omop/segments.sql
used AS (
  SELECT condition_concept_id AS concept_id FROM condition_occurrence
  UNION SELECT condition_source_concept_id FROM condition_occurrence
  UNION SELECT measurement_concept_id FROM measurement
  UNION SELECT procedure_concept_id FROM procedure_occurrence
),
-- include omop/meaning.sql
intensive AS (  -- 32037: intensive care
  SELECT 32037 AS concept_id
  UNION SELECT descendant_concept_id FROM concept_ancestor WHERE ancestor_concept_id = 32037
),
icu AS (
  SELECT person_id, visit_occurrence_id AS visit, visit_detail_start_date AS started_on,
    instant(visit_detail_start_datetime) AS started_at, visit_detail_end_date AS ended_on,
    instant(visit_detail_end_datetime) AS ended_at
  FROM visit_detail WHERE visit_detail_concept_id IN (FROM intensive)
  UNION ALL
  SELECT person_id, visit_occurrence_id, visit_start_date, instant(visit_start_datetime),
    visit_end_date, instant(visit_end_datetime)
  FROM visit_occurrence WHERE visit_concept_id IN (FROM intensive)
),
segment AS (
  FROM hospital_segment
  UNION ALL BY NAME
  SELECT visit, CAST(person_id AS VARCHAR) AS patient, 'icu' AS kind,
    started_on AS started_earliest, started_on AS started_latest, started_at,
    i.ended_on, i.ended_at, false AS left_dead
  FROM icu i
),
-- include stays.sql
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
