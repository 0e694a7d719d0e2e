import numpy as np

from innerloop.data.images import FewShotDataset
from innerloop.data.sampling import EpisodeSampler
from innerloop.data.sheet import episode_sheet


def test_a_sheet_has_a_row_for_each_class_with_support_before_query():
    """Every drawing is of one grey that names it; its middle on the sheet has that ink's grey."""
    ink = np.arange(1, 3 * 5 + 1, dtype=np.uint8).reshape(3, 5, 1, 1, 1) * 10
    images = np.broadcast_to(ink, (3, 5, 1, 4, 4)).copy()
    dataset = FewShotDataset("grey", images, ("a/a", "a/b", "a/c"))
    sampler = EpisodeSampler(
        dataset, np.arange(3), ways=3, shots=2, queries=3, seed=0, stream_name="episodes/val"
    )
    batch = sampler.batch(0, 1)

    sheet = 255 - np.asarray(episode_sheet(batch, zoom=2, gap=4)).astype(int)

    size = 2 * 4 + 4
    assert sheet.shape == (3 * size, 5 * size + 2 * 4)
    middles = [(number + (number >= 2) * 8 / size) * size + size / 2 for number in range(5)]
    drawings = np.concatenate([batch.support_drawings[0], batch.query_drawings[0]], axis=1)
    for row, index in enumerate(batch.classes[0].tolist()):
        shown = sheet[row * size + size // 2, [int(middle) for middle in middles]]
        assert shown.tolist() == ink[index, drawings[row], 0, 0, 0].tolist()
