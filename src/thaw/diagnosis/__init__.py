"""What would help more: more images, or cleaner labels?"""
