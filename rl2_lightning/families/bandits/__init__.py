"""What several families of bandits share: their episodes, players and indices."""
