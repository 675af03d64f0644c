"""The approver's page in French: each English sentence and its translation."""

from __future__ import annotations

FRENCH: dict[str, str] = {
    "Study": "Étude",
    "Standing": "État",
    "Title": "Titre",
    "Who asks": "Qui demande",
    "What for": "But",
    "Permit": "Autorisation",
    "Task": "Tâche",
    "Which patients": "Quels patients",
    "Which columns": "Quelles colonnes",
    "Question {number}": "Question {number}",
    "More questions": "Autres questions",
    "Read as": "Lu comme",
    "Then fitted": "Puis ajusté",
    "For whom it fails, by": "Pour qui il échoue, par",
    "With whom": "Avec qui",
    "Reserved until": "Réservé jusqu'au",
    "What leaves": "Ce qui sort",
    "How private": "Confidentialité",
    "What that means": "Ce que cela veut dire",
    "Its delta": "Son delta",
    "What that assumes": "Ce que cela suppose",
    "Without noise": "Sans bruit",
    "What stays here": "Ce qui reste ici",
    "If secure aggregation broke": "Si l'agrégation sûre cédait",
    "Why it cannot be accepted": "Pourquoi c'est impossible",
    "What it costs": "Ce que cela coûte",
    "Budget with it": "Budget avec elle",
    "What would be left": "Ce qui resterait",
    "{task}, version {version}": "{task}, version {version}",
    "{day} (UTC)": "{day} (UTC)",
    "none is stated, and policy.permits asks for one": (
        "aucune n'est indiquée, et policy.permits en exige une"
    ),
    "NOT confirmed by this hospital's own records (policy.permits)": (
        "NON confirmée par les registres de cet hôpital (policy.permits)"
    ),
    "confirmed by this hospital's own records": "confirmée par les registres de cet hôpital",
    "{number}, until {day}; legal basis: {basis}; signed by {person}; {known}": (
        "{number}, jusqu'au {day} ; base légale : {basis} ; signée par {person} ; {known}"
    ),
    "Training starts from": "L'entraînement part de",
    "the model {model}, made by study {study}": "le modèle {model}, issu de l'étude {study}",
    "no epsilon bounds what that model tells of its patients": (
        "aucun epsilon ne borne ce que ce modèle dit de ses patients"
    ),
    "that model may tell epsilon {epsilon} at delta {delta:g} of its patients; of a patient of "
    "both, the costs add up": (
        "ce modèle peut dire epsilon {epsilon} à delta {delta:g} de ses patients ; pour un patient "
        "des deux, les coûts s'additionnent"
    ),
    "epsilon {epsilon} at most": "epsilon {epsilon} au plus",
    "epsilon {epsilon} at delta {delta:g} if all is used": (
        "epsilon {epsilon} à delta {delta:g} si tout est utilisé"
    ),
    "epsilon {epsilon} reserved": "epsilon {epsilon} réservé",
    "epsilon {epsilon} of {cap:g} reserved; {left} would be left": (
        "epsilon {epsilon} réservé sur {cap:g} ; il resterait {left}"
    ),
    "{share}% of the budget for ever, perhaps too little for another study like this one": (
        "{share} % du budget, pour toujours : peut-être trop peu pour une autre étude comme "
        "celle-ci"
    ),
    "{share}% of the budget for ever, enough for {more} more like this one at least": (
        "{share} % du budget, pour toujours : de quoi en faire au moins {more} autre(s) "
        "comme celle-ci"
    ),
    "all of the task's patients; each counts once in a statistic, by his first such record": (
        "tous les patients de la tâche ; chacun compte une fois par statistique, par son "
        "premier enregistrement"
    ),
    "the task's patients with a record where {where}; each counts once in a statistic, by "
    "his first such record": (
        "les patients de la tâche dont un enregistrement vérifie {where} ; chacun compte une "
        "fois par statistique, par le premier de ceux-ci"
    ),
    "the task's cohort; a column of it says who trains and who evaluates": (
        "la cohorte de la tâche ; une de ses colonnes dit qui entraîne et qui évalue"
    ),
    "the task's cohort: records before {day} to train, those from then on to evaluate; the "
    "column `day` says which they are": (
        "la cohorte de la tâche : les enregistrements d'avant le {day} entraînent, ceux "
        "d'après évaluent ; la colonne `day` dit lesquels"
    ),
    "the task's cohort: {train:.0%} of it to train, {test:.0%} to evaluate": (
        "la cohorte de la tâche : {train:.0%} pour entraîner, {test:.0%} pour évaluer"
    ),
    "{by}. Each is one more release about every patient who evaluates; a level of fewer than "
    "{least} counted patients is not shown": (
        "{by}. Chacun est une publication de plus sur chaque patient qui évalue ; un niveau "
        "de moins de {least} patients comptés n'est pas montré"
    ),
    "the counts have no noise": "les comptes sont sans bruit",
    "a table one: means, quartiles, shares and missing values": (
        "un tableau 1 : moyennes, quartiles, proportions et valeurs manquantes"
    ),
    "survival: Kaplan-Meier curves, median and mean times, log-rank test": (
        "survie : courbes de Kaplan-Meier, durées médiane et moyenne, test du log-rank"
    ),
    "a regression ({family}) with standard errors that know the noise": (
        "une régression ({family}) dont les erreurs types tiennent compte du bruit"
    ),
    "proportional hazards (Cox): hazard ratios with intervals that know the noise": (
        "risques proportionnels (Cox) : rapports de risque, dont les intervalles tiennent "
        "compte du bruit"
    ),
    "drift: whether these counts are still shared out as in a histogram from before": (
        "dérive : si ces comptes se répartissent encore comme dans un histogramme antérieur"
    ),
    "harmonisation: how far hospitals lie from one another in each column": (
        "harmonisation : à quel point les hôpitaux s'écartent les uns des autres, par colonne"
    ),
    "patients whom this site scored from {since} to {until} with the model {model}, what it said "
    "and what it was given{among}; each counts once in a statistic, by his first such record": (
        "les patients que ce site a évalués de {since} à {until} avec le modèle {model} : ce qu'il "
        "a dit et ce qui lui a été donné{among} ; chacun compte une fois par statistique, par le "
        "premier de ses enregistrements"
    ),
    ", within {column}": ", par strate de {column}",
    ", by {column}": ", par {column}",
    "survival curves and a log-rank test of {column}{groups}{within}, from one sum of events and "
    "departures in intervals of time": (
        "des courbes de survie et un test du log-rank de {column}{groups}{within}, d'après une "
        "somme des événements et des départs par intervalle de temps"
    ),
    "a {model} model of {names}{within}: from 0, in at most {iterates} iterates, which every site "
    "computes itself from all sums": (
        "un modèle {model} de {names}{within} : à partir de 0, en {iterates} itérations au plus, "
        "que chaque site calcule lui-même d'après toutes les sommes"
    ),
    "{planned} sums at most: an exact sum can show one patient.": (
        "{planned} sommes au plus : une somme exacte peut montrer un patient."
    ),
    "Exact sums protect patients only where all sites are honest: one that lies about its sums can "
    "steer the next iterate. Every site sees the pooled sums, and so everyone's minus its own; no "
    "epsilon covers them.": (
        "Des sommes exactes ne protègent les patients que si tous les sites sont honnêtes : celui "
        "qui ment sur les siennes peut orienter l'itération suivante. Chaque site voit les sommes "
        "de tous, donc celles des autres sans les siennes ; aucun epsilon ne les couvre."
    ),
    "Exact counts protect patients only where all sites are honest: every site sees the pooled "
    "counts, and so everyone's minus its own; no epsilon covers them.": (
        "Des comptages exacts ne protègent les patients que si tous les sites sont honnêtes : "
        "chacun voit les comptages de tous, donc ceux des autres sans les siens ; aucun epsilon ne "
        "les couvre."
    ),
    ", where {condition}": ", où {condition}",
    "{name}: the mean of {column}, clipped to {low:g} to {high:g}": (
        "{name} : la moyenne de {column}, limitée à l'intervalle de {low:g} à {high:g}"
    ),
    "{name}: how many": "{name} : combien",
    "{column} ({cells} cells)": "{column} ({cells} cases)",
    "{name}: how many by {by}": "{name} : combien par {by}",
    "{name}: whether this site's counts by {column} ({cells} cells), with noise, differ from those "
    "of all sites, and how far": (
        "{name} : si les comptes de ce site par {column} ({cells} cases), bruités, diffèrent de "
        "ceux de tous les sites, et à quel point"
    ),
    "epsilon {epsilon:g} at delta {delta:g} for each patient; this site adds all of the {noise} "
    "noise to its own counts, of which about 95% stays below {half:.3g} patients in each cell; "
    "sums over sites of what is made of these are shown without more noise": (
        "epsilon {epsilon:g} à delta {delta:g} pour chaque patient ; ce site ajoute à ses propres "
        "comptes tout le bruit ({noise}), dont environ 95 % reste sous {half:.3g} patients dans "
        "chaque case ; ce qui en est tiré est additionné sur les sites et montré sans autre bruit"
    ),
    "{columns}; to learn {label} ({meaning})": ("{columns} ; pour apprendre {label} ({meaning})"),
    "masked numbers; only sums over {least} or more sites can be opened, while no more than "
    "{colluding} collude with the coordinator": (
        "des nombres masqués ; seules s'ouvrent des sommes sur {least} sites ou plus, tant "
        "que {colluding} au plus s'entendent avec le coordinateur"
    ),
    "this site's own updates, without secure aggregation: the coordinator sees each": (
        "les mises à jour de ce seul site, sans agrégation sûre : le coordinateur voit chacune"
    ),
    "this site's own updates, without secure aggregation: the coordinator sees each and "
    "combines them by {rule}": (
        "les mises à jour de ce seul site, sans agrégation sûre : le coordinateur voit "
        "chacune et les combine par {rule}"
    ),
    "a control variate, until the study ends": (
        "une variable de contrôle, jusqu'à la fin de l'étude"
    ),
    "normalisation layers of this site's own, for its own use": (
        "des couches de normalisation propres à ce site, pour son usage"
    ),
    "a model of this site's own, for its own use": ("un modèle propre à ce site, pour son usage"),
    "{planned} sums at most: an exact sum can show one patient. Whoever chooses the model "
    "can read off a few of them any one patient's record": (
        "{planned} sommes au plus : une somme exacte peut montrer un patient. Qui choisit le "
        "modèle peut lire dans quelques-unes le dossier de n'importe quel patient"
    ),
    "policy.public_data says that these are public or synthetic": (
        "policy.public_data dit que ces données sont publiques ou synthétiques"
    ),
    "epsilon {epsilon:g} at delta {delta:g} for each patient; the sites share {noise} noise, "
    "of which about 95% stays below {half:.3g} patients in each of {cells} cells; below "
    "{least} nothing is shown": (
        "epsilon {epsilon:g} à delta {delta:g} pour chaque patient ; les sites se partagent "
        "un bruit ({noise}), dont environ 95 % reste sous {half:.3g} patients dans chacune "
        "des {cells} cases ; sous {least}, rien n'est montré"
    ),
    "not at all beyond the sum: no noise is added, and no epsilon covers anyone": (
        "aucune au-delà de la somme : aucun bruit n'est ajouté, aucun epsilon ne couvre personne"
    ),
    "training not at all beyond the sum: no noise is added to it; evaluation alone has "
    "epsilon {epsilon:g} at delta {delta:g}": (
        "aucune à l'entraînement au-delà de la somme : il n'a pas de bruit ; l'évaluation "
        "seule a epsilon {epsilon:g} à delta {delta:g}"
    ),
    "each site adds all the noise": "chaque site ajoute tout le bruit",
    "the sites share the noise": "les sites se partagent le bruit",
    "each site's part of the noise suffices alone": (
        "la part de bruit de chaque site suffit seule"
    ),
    "epsilon {epsilon:g} at delta {delta:g} for each patient; {where} (multiplier {noise:g}, "
    "{attempts} attempts at most)": (
        "epsilon {epsilon:g} à delta {delta:g} pour chaque patient ; {where} (multiplicateur "
        "{noise:g}, {attempts} tentatives au plus)"
    ),
    "the patients who evaluate are not covered: their sums are exact": (
        "les patients qui évaluent ne sont pas couverts : leurs sommes sont exactes"
    ),
    "whoever guesses from the results whether a given patient took part is right in at most "
    "{right} of 100 cases; without any results in 50": (
        "qui devine par les résultats si un patient donné a participé a raison au plus "
        "{right} fois sur 100 ; sans résultats, 50 fois"
    ),
    "Epsilon is for a patient who is at no more than {sites} of the sites; nobody can check "
    "that, and for one who is at more of them it is larger.": (
        "Epsilon vaut pour un patient présent dans {sites} site(s) au plus ; personne ne "
        "peut le vérifier, et pour qui est dans davantage il est plus grand."
    ),
}
