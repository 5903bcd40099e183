"""CLIP's text encoder as a measure of how alike two prompts are."""

import numpy as np

from palate.scorers.clip import CLIPScorer
from palate.scorers.texts import clip_texts


def test_an_embedding_is_the_one_that_pictures_are_compared_with(folder, pictures):
    """Cosines of the scorer for three pictures and one prompt determine its direction's share."""
    import torch
    from transformers import CLIPImageProcessorPil, CLIPModel

    model = CLIPModel.from_pretrained(folder).eval()
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    text = "a red cat"
    with torch.no_grad():
        seen = processor(images=pictures, return_tensors="pt").pixel_values
        found = model.get_image_features(pixel_values=seen).pooler_output.double().numpy()
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    (mine,) = clip_texts(folder, [text])
    expected = CLIPScorer.open(folder, scale="cosine").score(pictures, [text] * len(pictures))
    np.testing.assert_allclose(found @ mine, expected, atol=2e-5)


def test_lengths_are_one_and_batches_do_not_matter(folder):
    texts = ["a red cat", "two dogs", "", "nine old boats on a river at night in the rain"]
    together = clip_texts(folder, texts)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-9)
    np.testing.assert_allclose(clip_texts(folder, texts, batch=1), together, atol=1e-5)
    assert clip_texts(folder, []).shape == (0, together.shape[1])
