-- Hospital stays and what happened in them, out of an OMOP CDM 5.4.
WITH RECURSIVE
-- include omop/segments.sql
segment AS (FROM hospital_segment),
-- include stays.sql
payer AS (  -- Source of Payment Typology (SOPT)
  SELECT p.person_id, p.payer_plan_period_start_date AS since,
    p.payer_plan_period_end_date AS until,
    CASE WHEN c.concept_code LIKE '1%' THEN 'medicare' WHEN c.concept_code LIKE '2%' THEN 'medicaid'
      WHEN c.concept_code LIKE '5%' OR c.concept_code LIKE '6%' THEN 'commercial'
      WHEN c.concept_code LIKE '81%' THEN 'self_pay' ELSE 'other' END AS payer
  FROM payer_plan_period p
  JOIN concept c ON c.concept_id = p.payer_concept_id AND c.vocabulary_id = 'SOPT'
),
about_visit AS (
  SELECT v.visit_occurrence_id AS visit,
    (SELECT min(payer.payer) FROM payer WHERE payer.person_id = v.person_id
      AND v.visit_start_date BETWEEN payer.since AND payer.until) AS payer,
    lower(s.concept_name) AS specialty_name
  FROM visit_occurrence v
  LEFT JOIN provider r ON r.provider_id = v.provider_id
  LEFT JOIN concept s ON s.concept_id = r.specialty_concept_id AND s.concept_id > 0
),
used AS (
  SELECT condition_concept_id AS concept_id, count(*) AS times FROM condition_occurrence GROUP BY ALL
  UNION ALL SELECT condition_source_concept_id, count(*) FROM condition_occurrence GROUP BY ALL
  UNION ALL SELECT measurement_concept_id, count(*) FROM measurement GROUP BY ALL
  UNION ALL SELECT procedure_concept_id, count(*) FROM procedure_occurrence GROUP BY ALL
),
-- include omop/meaning.sql
-- include vital.sql
planned_visit AS (  -- with a procedure that is planned by its nature
  SELECT DISTINCT p.visit_occurrence_id AS visit FROM procedure_occurrence p
  JOIN meaning m ON m.name = 'planned_readmission' AND m.code_id = p.procedure_concept_id
),
diagnosis AS (  -- by the standard concept and by the one it was entered with; 32902: primary
  SELECT c.visit_occurrence_id AS visit, c.condition_occurrence_id AS entry, x.code_id,
    coalesce(o.concept_code, CAST(c.condition_concept_id AS VARCHAR)) AS code,
    CASE WHEN c.condition_status_concept_id = 32902 THEN 1 ELSE 2 END AS rank,
    c.condition_occurrence_id AS place
  FROM condition_occurrence c
  LEFT JOIN concept o ON o.concept_id = c.condition_source_concept_id AND o.concept_id > 0,
  unnest([c.condition_source_concept_id, c.condition_concept_id]) x (code_id)
  WHERE c.visit_occurrence_id IS NOT NULL
),
treated AS (
  SELECT visit_occurrence_id AS visit FROM procedure_occurrence
  WHERE visit_occurrence_id IS NOT NULL
),
tested AS (
  SELECT m.visit_occurrence_id AS visit, m.entry, n.name, n.display, m.value_as_number AS value,
    coalesce(u.concept_code, m.unit_source_value) AS unit
  FROM (SELECT *, row_number() OVER () AS entry FROM measurement) m
  LEFT JOIN meaning n ON n.code_id = m.measurement_concept_id
  LEFT JOIN concept u ON u.concept_id = m.unit_concept_id AND u.vocabulary_id = 'UCUM'
  WHERE m.visit_occurrence_id IS NOT NULL
    AND m.measurement_concept_id NOT IN (SELECT code_id FROM meaning JOIN vital USING (name))
),
drug AS (
  SELECT CAST(e.person_id AS VARCHAR) AS patient, e.visit_occurrence_id AS visit,
    e.drug_exposure_start_date AS at_time, e.drug_exposure_id AS prescription,
    CAST(e.drug_concept_id AS VARCHAR) AS product, lower(i.concept_name) AS ingredients
  FROM drug_exposure e
  LEFT JOIN (
    SELECT a.descendant_concept_id, string_agg(DISTINCT c.concept_name, ' / ') AS concept_name
    FROM concept_ancestor a JOIN concept c ON c.concept_id = a.ancestor_concept_id
    WHERE c.vocabulary_id = 'RxNorm' AND c.concept_class_id = 'Ingredient'
    GROUP BY a.descendant_concept_id
  ) i ON i.descendant_concept_id = e.drug_concept_id
),
