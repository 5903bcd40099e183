"""What the scorers of these tests are shown, and how large their random CLIP model is."""

SIDE, TOKENS = 32, 12
PROMPTS = ["a red ball", "", "a blue box on green, and very many more words than there is room for"]
