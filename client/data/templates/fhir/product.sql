product AS (  -- what a request names itself, or the Medication that it refers to
  SELECT id AS request, text, system, code, display FROM medication WHERE product IS NULL
  UNION ALL
  SELECT m.request, p.text, p.system, p.code, p.display
  FROM (SELECT DISTINCT id AS request, product FROM medication) m
  JOIN medication_product p ON p.id = m.product
),
