"""The parts of flows: layout, runner, plan, session, conclusion."""
