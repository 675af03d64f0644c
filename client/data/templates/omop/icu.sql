-- The first stay in intensive care of every adult, out of an OMOP CDM 5.4.
WITH used AS (
  SELECT condition_concept_id AS concept_id FROM condition_occurrence
  UNION SELECT condition_source_concept_id FROM condition_occurrence
  UNION SELECT measurement_concept_id FROM measurement
  UNION SELECT procedure_concept_id FROM procedure_occurrence
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
icu_concept AS (  -- 32037: intensive care
  SELECT descendant_concept_id FROM concept_ancestor WHERE ancestor_concept_id = 32037
  UNION VALUES (32037)
),
icu AS (
  SELECT person_id, visit_occurrence_id,
    coalesce(visit_detail_start_datetime, CAST(visit_detail_start_date AS TIMESTAMP)) AS start,
    coalesce(visit_detail_end_datetime,
      CAST(visit_detail_end_date AS TIMESTAMP) + INTERVAL 24 HOUR) AS stop
  FROM visit_detail WHERE visit_detail_concept_id IN (FROM icu_concept)
  UNION ALL
  SELECT person_id, visit_occurrence_id,
    coalesce(visit_start_datetime, CAST(visit_start_date AS TIMESTAMP)),
    coalesce(visit_end_datetime, CAST(visit_end_date AS TIMESTAMP) + INTERVAL 24 HOUR)
  FROM visit_occurrence WHERE visit_concept_id IN (FROM icu_concept)
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
  SELECT s.patient, n.name, n.display, m.value_as_number AS value,
    coalesce(u.concept_code, m.unit_source_value) AS unit,
    coalesce(m.measurement_datetime, CASE WHEN m.measurement_date = CAST(s.start AS DATE)
      THEN s.start ELSE CAST(m.measurement_date AS TIMESTAMP) END) AS at_time
  FROM measurement m
  JOIN meaning n ON n.concept_id = m.measurement_concept_id
  JOIN stay s ON s.person = m.person_id
  LEFT JOIN concept u ON u.concept_id = m.unit_concept_id AND u.vocabulary_id = 'UCUM'
  WHERE m.value_as_number IS NOT NULL
    AND m.measurement_date BETWEEN CAST(s.start AS DATE) AND CAST(s.start AS DATE) + 2
),
diagnosed AS (  -- by the standard concept, or by the ICD code it was entered with
  SELECT DISTINCT s.patient, meaning.name, coalesce(c.condition_start_datetime,
    CAST(c.condition_start_date AS TIMESTAMP)) AS at_time
  FROM condition_occurrence c
  JOIN meaning ON meaning.concept_id IN (c.condition_concept_id, c.condition_source_concept_id)
  JOIN stay s ON s.person = c.person_id
),
treated AS (
  SELECT DISTINCT s.patient, meaning.name,
    coalesce(p.procedure_datetime, CAST(p.procedure_date AS TIMESTAMP)) AS at_time
  FROM procedure_occurrence p
  JOIN meaning ON meaning.concept_id = p.procedure_concept_id
  JOIN stay s ON s.person = p.person_id
),
