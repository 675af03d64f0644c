-- The first stay in intensive care of every adult, out of an OMOP CDM 5.4.
WITH code AS (  -- concepts of each value set
  SELECT v.name, c.concept_id
  FROM value_set v JOIN concept c ON c.vocabulary_id = v.vocabulary AND c.concept_code = v.code
),
meaning AS (  -- and all below them
  SELECT name, concept_id FROM code
  UNION
  SELECT code.name, a.descendant_concept_id
  FROM code JOIN concept_ancestor a ON a.ancestor_concept_id = code.concept_id
),
icu AS (  -- 32037: intensive care
  SELECT person_id, visit_occurrence_id,
    coalesce(visit_detail_start_datetime, CAST(visit_detail_start_date AS TIMESTAMP)) AS start,
    coalesce(visit_detail_end_datetime,
      CAST(visit_detail_end_date AS TIMESTAMP) + INTERVAL 24 HOUR) AS stop
  FROM visit_detail WHERE visit_detail_concept_id = 32037
  UNION ALL
  SELECT person_id, visit_occurrence_id,
    coalesce(visit_start_datetime, CAST(visit_start_date AS TIMESTAMP)),
    coalesce(visit_end_datetime, CAST(visit_end_date AS TIMESTAMP) + INTERVAL 24 HOUR)
  FROM visit_occurrence WHERE visit_concept_id = 32037
),
first_stay AS (
  SELECT * FROM icu
  QUALIFY row_number() OVER (PARTITION BY person_id ORDER BY start, stop, visit_occurrence_id) = 1
),
aged AS (
  SELECT s.*, CASE p.gender_concept_id WHEN 8532 THEN 'female' WHEN 8507 THEN 'male' END AS sex,
    CAST(date_sub('year', make_date(p.year_of_birth, coalesce(p.month_of_birth, 7),
      coalesce(p.day_of_birth, 1)), CAST(s.start AS DATE)) AS DOUBLE) AS age
  FROM first_stay s JOIN person p USING (person_id)
),
stay AS (
  SELECT CAST(a.person_id AS VARCHAR) AS patient, a.person_id AS person, a.sex, a.age, a.start,
    a.stop,
    CASE
      WHEN v.visit_end_date IS NULL THEN NULL  -- still there
      WHEN v.discharged_to_concept_id IN (4216643, 44814686) THEN 1.0  -- discharged dead
      WHEN d.death_date <= v.visit_end_date THEN 1.0
      ELSE 0.0
    END AS died_in_hospital,
    CASE
      WHEN a.stop IS NULL THEN NULL
      WHEN coalesce(d.death_datetime, CAST(d.death_date AS TIMESTAMP)) <= a.stop THEN 1.0
      ELSE 0.0
    END AS died_in_icu
  FROM aged a
  LEFT JOIN visit_occurrence v USING (visit_occurrence_id)
  LEFT JOIN (
    SELECT person_id, min(death_date) AS death_date, min(death_datetime) AS death_datetime
    FROM death GROUP BY person_id
  ) d ON d.person_id = a.person_id
  WHERE a.age >= 18
),
observed AS (  -- a measurement without a time of the day of admission counts as made then
  SELECT s.patient, code.name, m.value_as_number AS value,
    coalesce(u.concept_code, m.unit_source_value) AS unit,
    coalesce(m.measurement_datetime, CASE WHEN m.measurement_date = CAST(s.start AS DATE)
      THEN s.start ELSE CAST(m.measurement_date AS TIMESTAMP) END) AS at_time
  FROM measurement m
  JOIN code ON code.concept_id = m.measurement_concept_id
  JOIN stay s ON s.person = m.person_id
  LEFT JOIN concept u ON u.concept_id = m.unit_concept_id AND u.vocabulary_id = 'UCUM'
  WHERE m.value_as_number IS NOT NULL
    AND m.measurement_date BETWEEN CAST(s.start AS DATE) AND CAST(s.start AS DATE) + 2
),
diagnosed AS (  -- by the standard concept, or by the ICD code it was entered with
  SELECT DISTINCT s.patient, meaning.name, coalesce(c.condition_start_datetime,
    CAST(c.condition_start_date AS TIMESTAMP)) AS at_time
  FROM condition_occurrence c
  JOIN meaning ON meaning.concept_id = c.condition_concept_id
  JOIN stay s ON s.person = c.person_id
  UNION
  SELECT DISTINCT s.patient, v.name, coalesce(c.condition_start_datetime,
    CAST(c.condition_start_date AS TIMESTAMP))
  FROM condition_occurrence c
  JOIN concept o ON o.concept_id = c.condition_source_concept_id
    AND o.vocabulary_id IN ('ICD10', 'ICD10CM', 'ICD10GM')
  JOIN value_set v ON v.vocabulary = 'ICD10' AND starts_with(o.concept_code, v.code)
  JOIN stay s ON s.person = c.person_id
),
treated AS (
  SELECT DISTINCT s.patient, meaning.name,
    coalesce(p.procedure_datetime, CAST(p.procedure_date AS TIMESTAMP)) AS at_time
  FROM procedure_occurrence p
  JOIN meaning ON meaning.concept_id = p.procedure_concept_id
  JOIN stay s ON s.person = p.person_id
),
