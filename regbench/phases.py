"""The phases of a case, as a worker tells its supervisor; the time limit of a method runs during OWN_PHASES."""

STARTING = "starting"
READING = "reading"
LOADING = "loading"
SETTING_UP = "setting up"
REGISTERING = "registering"
EVALUATING = "evaluating"
OWN_PHASES = (LOADING, SETTING_UP, REGISTERING)
