meaning AS (  -- the value sets that hold a concept of `used`: by its code, or by concept_ancestor
  SELECT name, concept_id AS code_id, max(depth) AS depth, min(concept_name) AS display
  FROM (
    SELECT v.name, c.concept_id, v.depth, c.concept_name
    FROM (SELECT concept_id, concept_name, unnest(code_keys(vocabulary_id, concept_code)) AS key
      FROM concept WHERE concept_id IN (SELECT concept_id FROM used)) c JOIN value_set v USING (key)
    UNION ALL
    SELECT v.name, c.concept_id, v.depth, c.concept_name
    FROM value_set v
    JOIN concept root ON root.vocabulary_id = v.vocabulary AND root.concept_code = v.code
    JOIN concept_ancestor a ON a.ancestor_concept_id = root.concept_id
    JOIN concept c ON c.concept_id = a.descendant_concept_id
  ) GROUP BY name, concept_id
),
coding AS (  -- of a concept that the table concept lacks, the number is all that is known
  SELECT u.concept_id, coalesce(c.vocabulary_id, 'concept_id') AS system,
    coalesce(c.concept_code, CAST(u.concept_id AS VARCHAR)) AS code, c.concept_name AS display,
    coalesce(c.standard_concept, 'S') = 'S' AS standard, sum(u.times) AS times
  FROM used u LEFT JOIN concept c USING (concept_id) WHERE u.concept_id <> 0 GROUP BY ALL
),
