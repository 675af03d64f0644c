UPDATE studies SET document = CAST(replace(CAST(document AS TEXT), 'Left running', 'Left walking') AS BLOB) WHERE digest = '86552e4a48306ba3cdcf2e9472e50bb46109005230fec6326c0d8f2072201f14';
