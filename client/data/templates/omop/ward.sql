-- Hospital stays, results, medicines and procedures of every patient, out of an OMOP CDM 5.4.
WITH RECURSIVE
-- include omop/segments.sql
used AS (
  SELECT condition_concept_id AS concept_id, count(*) AS times FROM condition_occurrence GROUP BY ALL
  UNION ALL SELECT condition_source_concept_id, count(*) FROM condition_occurrence GROUP BY ALL
  UNION ALL SELECT measurement_concept_id, count(*) FROM measurement GROUP BY ALL
  UNION ALL SELECT procedure_concept_id, count(*) FROM procedure_occurrence GROUP BY ALL
  UNION ALL SELECT drug_concept_id, count(*) FROM drug_exposure GROUP BY ALL
),
-- include omop/meaning.sql
-- include omop/intensive.sql
observed AS (  -- of a day without a time: known after it
  SELECT CAST(m.person_id AS VARCHAR) AS patient, n.name, n.display, m.value_as_number AS value,
    coalesce(u.concept_code, m.unit_source_value) AS unit,
    coalesce(instant(m.measurement_datetime), CAST(m.measurement_date + 1 AS TIMESTAMPTZ))
      AS at_time
  FROM measurement m
  JOIN meaning n ON n.code_id = m.measurement_concept_id
  LEFT JOIN concept u ON u.concept_id = m.unit_concept_id AND u.vocabulary_id = 'UCUM'
  WHERE m.value_as_number IS NOT NULL
),
arrested AS (
  SELECT CAST(c.person_id AS VARCHAR) AS patient,
    coalesce(instant(c.condition_start_datetime), CAST(c.condition_start_date AS TIMESTAMPTZ))
      AS earliest,
    coalesce(instant(c.condition_start_datetime), CAST(c.condition_start_date + 1 AS TIMESTAMPTZ))
      AS latest
  FROM condition_occurrence c
  JOIN meaning n ON n.code_id IN (c.condition_concept_id, c.condition_source_concept_id)
  WHERE n.name = 'cardiac_arrest'
  UNION ALL
  SELECT CAST(p.person_id AS VARCHAR),
    coalesce(instant(p.procedure_datetime), CAST(p.procedure_date AS TIMESTAMPTZ)),
    coalesce(instant(p.procedure_datetime), CAST(p.procedure_date + 1 AS TIMESTAMPTZ))
  FROM procedure_occurrence p JOIN meaning n ON n.code_id = p.procedure_concept_id
  WHERE n.name = 'cardiac_arrest'
),
event AS (  -- what was begun or done; of a day without a time, known after it
  SELECT e.kind, CAST(e.person_id AS VARCHAR) AS patient, e.event,
    coalesce(instant(e.moment), CAST(e.day + 1 AS TIMESTAMPTZ)) AS at_time,
    substr(n.name, length(e.kind) + 2) AS name
  FROM (
    SELECT 'medicine' AS kind, person_id, drug_exposure_id AS event,
      drug_exposure_start_datetime AS moment, drug_exposure_start_date AS day,
      drug_concept_id AS concept_id
    FROM drug_exposure
    UNION ALL
    SELECT 'procedure', person_id, row_number() OVER (), procedure_datetime, procedure_date,
      procedure_concept_id
    FROM procedure_occurrence
  ) e LEFT JOIN meaning n ON n.code_id = e.concept_id AND starts_with(n.name, e.kind || ':')
),
