-- Appointments that were kept or missed, out of an OMOP CDM 5.4: outpatient visits, and what a value
-- set of your own, missed_appointment, names: concepts of observations (about a visit, or of a day
-- without one) or of visits. Without it, or where it meets no record, there is no row at all. A CDM
-- does not tell when an appointment was made.
WITH RECURSIVE people AS (
  SELECT CAST(person_id AS VARCHAR) AS patient,
    CASE gender_concept_id WHEN 8532 THEN 'female' WHEN 8507 THEN 'male' END AS sex,
    TRY(make_date(year_of_birth, coalesce(month_of_birth, 7), coalesce(day_of_birth, 1))) AS birth
  FROM person
),
used AS (
  SELECT observation_concept_id AS concept_id, count(*) AS times FROM observation GROUP BY ALL
  UNION ALL SELECT observation_source_concept_id, count(*) FROM observation GROUP BY ALL
  UNION ALL SELECT visit_concept_id, count(*) FROM visit_occurrence GROUP BY ALL
  UNION ALL SELECT visit_source_concept_id, count(*) FROM visit_occurrence GROUP BY ALL
),
-- include omop/meaning.sql
absence AS (SELECT code_id FROM meaning WHERE name = 'missed_appointment'),
absent AS (
  SELECT person_id, visit_occurrence_id AS visit, observation_date AS day,
    observation_datetime AS moment
  FROM observation
  WHERE observation_concept_id IN (FROM absence) OR observation_source_concept_id IN (FROM absence)
),
outpatient_visit AS (
  SELECT 9202 AS concept_id
  UNION SELECT descendant_concept_id FROM concept_ancestor WHERE ancestor_concept_id = 9202
),
-- include omop/released.sql
seen AS (
  SELECT person_id, visit_start_date AS day, visit_start_datetime AS moment,
    coalesce(visit_occurrence_id IN (SELECT visit FROM absent WHERE visit IS NOT NULL)
      OR visit_concept_id IN (FROM absence) OR visit_source_concept_id IN (FROM absence), false)
      AS missed
  FROM visit_occurrence, released
  WHERE coalesce(visit_start_date <= released.day, true) AND (
    visit_concept_id IN (FROM outpatient_visit) OR visit_concept_id IN (FROM absence)
    OR visit_source_concept_id IN (FROM absence))
  UNION ALL
  SELECT person_id, day, moment, true FROM absent
  WHERE visit IS NULL OR visit NOT IN (SELECT visit_occurrence_id FROM visit_occurrence)
),
booked AS (
  SELECT CAST(person_id AS VARCHAR) AS patient, row_number() OVER () AS appointment,
    coalesce(CAST(moment AS VARCHAR), CAST(day AS VARCHAR)) AS started,
    CAST(NULL AS VARCHAR) AS made, missed
  FROM seen WHERE EXISTS (FROM seen WHERE missed)
),
