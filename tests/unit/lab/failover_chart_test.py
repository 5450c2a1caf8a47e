"""The chart of a failover: every count has its bar, every mark its line, in order and inside of the picture."""
import re, unittest
import xml.etree.ElementTree as xml
from bench import failover_chart as chart

SVG = '{http://www.w3.org/2000/svg}'
MARKS = [('killed', 0.0), ('noticed', 0.9), ('key held', 3.1), ('running', 3.25)]


class Chart(unittest.TestCase):
    def drawn(self, counts=None):
        counts = counts if counts is not None else [10] * 40 + [0] * 66 + [5, 20] + [10] * 60
        return xml.fromstring(chart.svg(counts, -2.0, MARKS, 'Redis & <friends>'))

    def test_buckets_count_what_falls_into_them(self):
        self.assertEqual(chart.buckets([0.0, 0.049, 0.05, 0.1, 0.999, -0.1, 7], 0.0, 0.2), [2, 1, 1, 0])

    def test_steps_are_round(self):
        self.assertEqual([chart.nice_step(n) for n in (3, 7, 17, 99, 250, 4000)], [1, 2, 5, 50, 100, 1000])

    def test_each_bucket_with_replies_is_a_bar(self):
        bars = [r for r in self.drawn().iter(f'{SVG}rect') if r.get('fill') == chart.BAR]
        self.assertEqual(len(bars), 40 + 2 + 60)
        heights = [float(b.get('height')) for b in bars]
        self.assertEqual(heights.index(max(heights)), 41, 'the fullest bucket is the highest bar')

    def test_marks_are_there_in_order_and_labels_do_not_overlap(self):
        root = self.drawn()
        labels = [t for t in root.iter(f'{SVG}text') if t.get('fill') in chart.COLOURS.values()]
        self.assertEqual([t.text for t in labels], ['killed', 'noticed, 900 ms', 'key held, 3100 ms', 'running, 3250 ms'])
        at = [float(t.get('x')) for t in labels]
        self.assertEqual(at, sorted(at))
        self.assertNotEqual(labels[2].get('y'), labels[3].get('y'))

    def test_everything_is_inside_of_the_picture(self):
        for e in self.drawn().iter():
            for axis, most in (('x', chart.WIDTH), ('y', chart.HEIGHT), ('x2', chart.WIDTH), ('y2', chart.HEIGHT)):
                if e.get(axis):
                    self.assertTrue(0 <= float(e.get(axis)) <= most, xml.tostring(e))

    def test_a_silent_guest_is_a_chart_too(self):
        self.assertFalse([r for r in self.drawn([0] * 100).iter(f'{SVG}rect') if r.get('fill') == chart.BAR])

    def test_text_is_escaped(self):
        self.assertTrue(any('Redis & <friends>' == t.text for t in self.drawn().iter(f'{SVG}text')))
        self.assertFalse(re.search('<friends>', chart.svg([1], 0, MARKS, '<friends>')))


if __name__ == '__main__':
    unittest.main()
