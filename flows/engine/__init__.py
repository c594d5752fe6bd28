"""What flows are made of: layout, runner, plan, session, conclusion."""
