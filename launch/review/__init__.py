"""The reviewer's side: looks at a model, signs a decision, and hands it to the coordinator."""
