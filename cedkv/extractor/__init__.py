"""How an extractor is trained: episodes of many relations, one lesson, stages and the folder they leave."""
