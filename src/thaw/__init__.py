"""thaw: keep a pretrained backbone frozen, fine-tune it, or do one after the other?"""
